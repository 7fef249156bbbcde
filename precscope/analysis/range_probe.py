"""Which modules have to stay in FP32 for the half precision forward to be finite, by trying.

That a module's output overflows FP16 is seen in the FP32 histograms. That the module behind it
casts the same values to FP16 again is not: so the advised forward is run, and the first module
whose output is not finite joins those kept in FP32, until none is left.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from precscope.advice.evidence import Evidence
from precscope.advice.policy import overflowing_modules
from precscope.advice.ranges import range_findings
from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.storage import half_stored
from precscope.probes.finite_forward import first_break, module_breaks
from precscope.probes.isolated import isolated
from precscope.training.fp32_modules import Fp32Modules
from precscope.workload import Session

MAX_MODULES = 32
"""A model that needs more islands than this is better trained in BF16."""


def wanted_in_fp32(evidence: Evidence) -> tuple[str, ...]:
    """Modules that the histograms alone want in FP32."""
    sites = evidence.sites
    return overflowing_modules(range_findings(sites), [site for site, _ in sites])


def probe_range(
    session: Session,
    batch: Any,
    fp32_modules: tuple[str, ...],
    seen: Sequence[str | None] = (),
) -> dict[str, Any]:
    """Run the FP16 forward, keeping more modules in FP32 until its values are finite.

    Args:
        session: the training; given back unchanged.
        batch: a batch that is finite in FP32.
        fp32_modules: names that the histograms already want in FP32.
        seen: what ``first_break`` said of a forward of ``batch`` with no module in FP32; empty if
            none was run.

    Returns:
        ``{"fp32_modules": names found by trying, "finite": bool}``. A module whose output is not
        finite in FP32 either, such as a mask of -inf, is passed over. Not finite: a value
        overflows outside every module, or such a module's values come to where they do harm.
    """
    modules = dict(session.model.named_modules())
    kept = [name for name in fp32_modules if name in modules]
    found: list[str] = []
    passed_over: set[str] = set()
    known = [] if kept else list(seen)
    for _ in range(MAX_MODULES):
        keep = [modules[name] for name in kept + found]
        culprit = known.pop() if known else _first_to_break(session, batch, keep, passed_over)
        if culprit is None:
            return {"fp32_modules": found, "finite": True}
        if culprit == "":
            break
        if culprit in kept + found:
            passed_over.add(culprit)
            found = [name for name in found if name != culprit]
        else:
            found.append(culprit)
    return {"fp32_modules": found, "finite": False}


def _first_to_break(
    session: Session, batch: Any, keep: list[nn.Module], passed_over: Collection[str]
) -> str | None:
    kind = session.device.type
    islands = Fp32Modules(keep, kind)
    try:
        with (
            isolated(session.model),
            torch.no_grad(),
            half_stored(session.model, keep),
            half_on_cpu(),
            module_breaks(session.model, passed_over) as broken,
            torch.autocast(kind, dtype=torch.float16),
        ):
            loss = session.loss(batch)
    finally:
        islands.remove()
    return first_break(broken, loss)
