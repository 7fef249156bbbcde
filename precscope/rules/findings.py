"""Findings as something that rules can be about: by the name of the rule that found them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from precscope.rules.quantity import Quantity, Reading, Readings, Result, Selection

Origin = Literal["observation", "updates", "sums", "training", "anything"]
"""What a run must hold for a finding to be possible at all."""

FINDINGS: dict[str, Origin] = {
    "first_non_finite": "observation",
    "skipped_steps": "observation",
    "non_finite": "observation",
    "overflow": "observation",
    "headroom": "observation",
    "underflow": "observation",
    "loss_scale_static": "observation",
    "loss_scale_dynamic": "observation",
    "loss_scale_impossible": "observation",
    "scale_drift": "observation",
    "updates_swallowed": "updates",
    "fp32_accumulation_required": "sums",
    "fp32_accumulation_advised": "sums",
    "native_fp16_accumulation": "sums",
    "promise_broken": "training",
    "metric_behind": "training",
    "recipe_diverged": "training",
    "recipe_behind": "training",
    "script_is_mixed": "observation",
    "script_recipes_not_run": "observation",
    "script_fails_with_recipe": "training",
}
"""Every rule of ``advice`` with what it judges. A finding that is not here is known by the result."""

SEVERITIES = ("ok", "advice", "warning", "critical")
"""Mildest first, so that ``severity >= warning`` is a comparison of positions."""


def lacking(result: Result, origin: Origin) -> str:
    """Why no finding of this origin is possible in this run; empty if one is."""
    if origin == "observation" and not result["coverage"]["observed_steps"]:
        return "nothing was observed"
    if origin == "updates" and not result["master_weights"]["parameters"]:
        return "no update of a weight was observed"
    if origin == "sums" and not result["accumulation"]["sites"]:
        return f"no sum was probed: {result['accumulation']['reason']}"
    if origin == "training" and not result["runs"]:
        return "nothing was trained"
    return ""


def _read(result: Result, selection: Selection) -> Readings:
    findings: list[dict[str, Any]] = result["findings"]
    meant = [f for f in findings if selection.names(str(f["site"] or ""))]
    nothing = not result["coverage"]["observed_steps"] and not result["runs"]
    return Readings(
        tuple(_reading(found) for found in meant),
        "nothing was observed or trained" if nothing else "",
    )


def _reading(found: dict[str, Any]) -> Reading:
    severity, rule = str(found["severity"]), str(found["rule"])
    return Reading(
        name=str(found["site"] or ""),
        label=str(found["site"] or "the model"),
        number=float(SEVERITIES.index(severity)),
        words=(severity, rule),
        detail=str(found["message"]),
    )


def finding_quantities() -> Iterable[Quantity]:
    """Findings by name, and by severity."""
    yield Quantity(
        "finding",
        "finding",
        "findings",
        "",
        "a finding of one of these names; * and ? stand for any characters and any one",
        _read,
        tuple(FINDINGS),
    )
    yield Quantity(
        "severity",
        "level",
        "findings",
        "",
        "severity of a finding",
        _read,
        SEVERITIES,
        lower=0.0,
        upper=float(len(SEVERITIES) - 1),
    )
