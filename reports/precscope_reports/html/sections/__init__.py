"""The sections of the page, each a function from a result to a ``Section``, in reading order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from precscope_reports.html.sections import (
    accumulation,
    findings,
    loss_scale,
    master_weights,
    provenance,
    runs,
    scale_sweep,
    sites,
    speed,
    verdicts,
)
from precscope_reports.html.sections.section import Section

__all__ = ["SECTIONS", "SWEEP_SECTIONS", "Section", "chosen"]

SECTIONS: tuple[Callable[[dict[str, Any]], Section], ...] = (
    verdicts.render,
    findings.render,
    sites.render,
    loss_scale.render,
    runs.render,
    master_weights.render,
    accumulation.render,
    provenance.render,
)

SWEEP_SECTIONS = (scale_sweep.render, provenance.render)
"""All there is to say where loss scales were swept and nothing else was done."""


def chosen(result: dict[str, Any]) -> tuple[Callable[[dict[str, Any]], Section], ...]:
    """The sections that this result has something to say in."""
    if result.get("scale_sweep") and not (result["sites"] or result["runs"]):
        return SWEEP_SECTIONS
    if not speed.is_measured(result):
        return SECTIONS
    return (*SECTIONS[:-1], speed.render, SECTIONS[-1])
