"""Recipes beside each other: ratios of blocks that ran in alternating order, at the same clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from precscope.timing.steps import Block

CLOCK_TOLERANCE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Comparison:
    """One recipe beside the baseline.

    Attributes:
        recipe: which.
        baseline: beside which.
        speedup: step time of the baseline over that of the recipe; None if refused.
        low: smallest ratio of neighbouring blocks.
        high: largest.
        reason: why there is no ratio.
    """

    recipe: str
    baseline: str
    speedup: float | None
    low: float | None
    high: float | None
    reason: str | None


def compare(blocks: Mapping[str, Sequence[Block]], recipe: str, baseline: str) -> Comparison:
    """Median of the ratios of the blocks that ran one after the other, with their range.

    Refused where the median clocks of the two differ by more than 3 %: then it is the clock that
    is compared.
    """
    reason = clocks_differ(blocks[recipe], blocks[baseline])
    if reason is not None:
        return Comparison(recipe, baseline, None, None, None, reason)
    pairs = zip(blocks[baseline], blocks[recipe], strict=False)
    ratios = [base.median_ms / other.median_ms for base, other in pairs]
    return Comparison(recipe, baseline, float(median(ratios)), min(ratios), max(ratios), None)


def clocks_differ(ours: Sequence[Block], theirs: Sequence[Block]) -> str | None:
    """The sentence that refuses a comparison; None if the clocks agree or were not read."""
    found = [_clock(blocks) for blocks in (ours, theirs)]
    if found[0] is None or found[1] is None:
        return None
    low, high = sorted((found[0], found[1]))
    if high - low <= CLOCK_TOLERANCE * high:
        return None
    return f"the SM clock was {found[0]:.0f} MHz beside {found[1]:.0f} MHz: not comparable"


def _clock(blocks: Sequence[Block]) -> float | None:
    clocks = [block.sm_clock_mhz for block in blocks if block.sm_clock_mhz is not None]
    return float(median(clocks)) if clocks else None
