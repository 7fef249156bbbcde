"""Where a forward pass first makes values that are not finite."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import nn

from precscope.monitor.tensors import floating_tensors


@contextmanager
def module_breaks(model: nn.Module, passed_over: Collection[str] = ()) -> Iterator[list[str]]:
    """Look at the output of every module inside the block, until the first that is not finite.

    Args:
        model: whose modules.
        passed_over: names of modules that are not looked at.

    Yields:
        a list that is empty until then: the name of that module, or "" if its inputs were not
        finite either, so that no module is to blame.
    """
    broken: list[str] = []

    def look(name: str) -> Any:
        def after_forward(_: nn.Module, inputs: Any, output: Any) -> None:
            if not broken and not _finite(output):
                broken.append(name if _finite(inputs) else "")

        return after_forward

    looked_at = [(n, m) for n, m in model.named_modules() if n not in passed_over]
    handles = [module.register_forward_hook(look(name)) for name, module in looked_at]
    try:
        yield broken
    finally:
        for handle in handles:
            handle.remove()


def first_break(broken: list[str], loss: torch.Tensor) -> str | None:
    """Name of the first module that broke; "" if only the loss did, None if all is finite.

    Args:
        broken: from ``module_breaks``, after the forward.
        loss: what the forward came to.
    """
    if broken:
        return broken[0]
    return None if bool(torch.isfinite(loss)) else ""


def _finite(values: Any) -> bool:
    return all(isfinite(_largest(t)) for t in floating_tensors(values) if t.numel())


def _largest(tensor: torch.Tensor) -> float:
    """Largest magnitude, NaN if one is NaN: in one pass, where ``isfinite`` takes several."""
    return float(torch.linalg.vector_norm(tensor.detach(), torch.inf))
