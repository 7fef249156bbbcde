"""Operator calls made by hand, and what their sampled sums add up to."""

from __future__ import annotations

from typing import Any

import torch

from precscope.probes.accumulation.call import Call, Origin, bound
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import sampled
from precscope.probes.accumulation.samplers import SAMPLERS


def call_of(func: Any, *args: Any, scale: float = 1.0, backward: bool = False) -> Call:
    """A call of ``func`` as the collector would hand it to its sampler."""
    result = func(*args)
    operator = func._schema.name.partition("::")[2]
    return Call(
        operator,
        bound(func, args, {}),
        func,
        args,
        {},
        result,
        "module",
        scale,
        backward,
        Origin("module", operator),
    )


def sums_in(call: Call) -> dict[str, Reduction]:
    """The sums that the call's sampler finds, by operation."""
    return {r.operation: r for r in SAMPLERS[call.operator](call)}


def totals(reduction: Reduction) -> torch.Tensor:
    """What the gathered addends add up to, in float64."""
    return reduction.addends().double().sum(0)


def at_samples(result: torch.Tensor) -> torch.Tensor:
    """The sampled elements of a result."""
    return result.reshape(-1)[sampled(result.numel())].double()


def halves(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers that FP16 holds exactly, in float32."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=stream).half().float()
