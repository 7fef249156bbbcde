"""How a comparison is worded, the same in the terminal and in the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from precscope_reports.phrases import (
    DASH,
    MINUS,
    counted,
    number,
    power_of_two,
    share,
    verdict_word,
)

PLUS = "+"

Comparison = Mapping[str, Any]
"""What ``precscope.comparison.compare`` returns."""

QUESTIONS: Mapping[str, str] = {
    "loss_scale.verdict": "Loss scale",
    "loss_scale.minimum_log2": "smallest scale that works",
    "loss_scale.maximum_log2": "largest safe scale",
    "loss_scale.recommended_log2": "scale to set",
    "master_weights.verdict": "Master weights",
    "accumulation.fp32_required": "sums that require FP32",
    "accumulation.fp32_advised": "sums advised FP32",
    "parity.verdict": "Parity with FP32",
    "drift.state": "Needed scale over time",
    "non_finite.steps": "steps not finite or skipped",
}
CHANGE_WORDS: Mapping[str, str] = {
    "non_finite": "NaN, inf",
    "overflow": "overflow",
    "flushed": "flushed",
    "shifted": "shifted",
    "same": "same",
}


def question(key: str) -> str:
    """What a verdict is about, in words."""
    return QUESTIONS.get(key, key)


def answer(key: str, value: Any) -> str:
    """A verdict, a scale as a power of two, or a count; a dash for None."""
    if value is None:
        return DASH
    if key.endswith("_log2"):
        return power_of_two(value)
    return verdict_word(value) if isinstance(value, str) else number(value)


def change_word(change: str) -> str:
    """The kind of change of a site, short enough for a column."""
    return CHANGE_WORDS.get(change, change)


def bits(value: float | None, signed: bool = True) -> str:
    """Bits with one decimal and a sign; ``0`` only where it is exactly 0, a dash for None."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if abs(value) < 0.05:
        return "<0.1" if value > 0 else f">{MINUS}0.1"
    return (f"{value:+.1f}" if signed else f"{value:.1f}").replace("-", MINUS)


def change_of_share(fraction: float | None) -> str:
    """The difference of two shares in per cent, with its sign: ``+12.3 %``; ``0`` only for 0."""
    if not fraction:
        return DASH if fraction is None else "0"
    size = share(abs(fraction))
    sign = PLUS if fraction > 0 else MINUS
    return size if size.startswith("<") and fraction > 0 else f"{sign}{size}"


def moved_sites(comparison: Comparison) -> list[Mapping[str, Any]]:
    """The sites that changed, the gravest first."""
    return [site for site in comparison["sites"] if site["change"] != "same"]


def final_loss(run: Mapping[str, Any], side: str) -> str:
    """The final loss of a run, or the step at which it diverged."""
    diverged = run[f"diverged_at_{side}"]
    return number(run[f"final_loss_{side}"]) if diverged is None else f"diverged at {diverged}"


def summary(comparison: Comparison) -> str:
    """One sentence: how much of what was compared moved."""
    counts = comparison["counts"]
    common = counts["common_sites"]
    verdicts = sum(verdict["moved"] for verdict in comparison["verdicts"])
    told = [
        f"{count} {what}"
        for what, count in (
            ("with NaN or infinities on one side only", counts["non_finite"]),
            ("with an overflow on one side only", counts["overflow"]),
            ("flushed differently", counts["flushed"]),
            ("shifted by a bit or more", counts["shifted"]),
        )
        if count
    ]
    sites = f"of {counted(common, 'site')} {', '.join(told) or 'none moved'}"
    moved = f"{counted(verdicts, 'verdict')} moved" if verdicts else "no verdict moved"
    return f"{moved[:1].upper()}{moved[1:]}; {sites}." if common else f"{moved}; no site compared."
