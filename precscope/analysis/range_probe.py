"""Which modules have to stay in FP32 for the half precision forward to be finite, by trying.

That a module's output overflows FP16 is seen in the FP32 histograms. That the module behind it
casts the same values to FP16 again is not: so the advised forward is run, and the first module
whose output is not finite joins those kept in FP32, until none is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any

import torch
from torch import nn

from precscope.advice.evidence import Evidence
from precscope.advice.policy import overflowing_modules
from precscope.advice.ranges import range_findings
from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.storage import half_stored
from precscope.monitor.tensors import floating_tensors
from precscope.probes.isolated import isolated
from precscope.training.fp32_modules import Fp32Modules
from precscope.workload import Session

MAX_MODULES = 32
"""A model that needs more islands than this is better trained in BF16."""


def wanted_in_fp32(evidence: Evidence) -> tuple[str, ...]:
    """Modules that the histograms alone want in FP32."""
    sites = evidence.sites
    return overflowing_modules(range_findings(sites), [site for site, _ in sites])


def probe_range(session: Session, batch: Any, fp32_modules: tuple[str, ...]) -> dict[str, Any]:
    """Run the FP16 forward, keeping more modules in FP32 until its values are finite.

    Args:
        session: the training; given back unchanged.
        batch: a batch that is finite in FP32.
        fp32_modules: names that the histograms already want in FP32.

    Returns:
        ``{"fp32_modules": names found by trying, "finite": bool}``. Not finite: a value overflows
        outside every module, or in one that is kept in FP32 already.
    """
    modules = dict(session.model.named_modules())
    kept = [name for name in fp32_modules if name in modules]
    found: list[str] = []
    with isolated(session.model), torch.no_grad():
        for _ in range(MAX_MODULES):
            culprit = _first_to_break(session, batch, [modules[name] for name in kept + found])
            if culprit is None:
                return {"fp32_modules": found, "finite": True}
            if culprit == "" or culprit in kept + found:
                break
            found.append(culprit)
    return {"fp32_modules": found, "finite": False}


def _first_to_break(session: Session, batch: Any, keep: list[nn.Module]) -> str | None:
    """Name of the first module that turns finite inputs into others; "" if none but the loss."""
    kind = session.device.type
    islands = Fp32Modules(keep, kind)
    try:
        with (
            half_stored(session.model, keep),
            half_on_cpu(),
            _breaks(session.model) as broken,
            torch.autocast(kind, dtype=torch.float16),
        ):
            loss = session.loss(batch)
    finally:
        islands.remove()
    if broken:
        return broken[0]
    return None if bool(torch.isfinite(loss)) else ""


@contextmanager
def _breaks(model: nn.Module) -> Iterator[list[str]]:
    broken: list[str] = []

    def look(name: str) -> Any:
        def after_forward(_: nn.Module, inputs: Any, output: Any) -> None:
            if not broken and not _finite(output):
                broken.append(name if _finite(inputs) else "")

        return after_forward

    handles = [m.register_forward_hook(look(n)) for n, m in model.named_modules()]
    try:
        yield broken
    finally:
        for handle in handles:
            handle.remove()


def _finite(values: Any) -> bool:
    return all(isfinite(_largest(t)) for t in floating_tensors(values) if t.numel())


def _largest(tensor: torch.Tensor) -> float:
    """Largest magnitude, NaN if one is NaN: in one pass, where ``isfinite`` takes several."""
    return float(torch.linalg.vector_norm(tensor, torch.inf))
