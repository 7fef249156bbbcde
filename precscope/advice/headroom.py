"""The upper bound of a loss scale, from the largest gradient of each step.

    k_U = floor(log2(overflow threshold) - max(m, mu + 3.09 sigma)) - margin

over a_t, the log2 of the largest gradient in step t: m its maximum, mu and sigma its mean and
standard deviation. 3.09 is the normal quantile of 0.999: at most one overflow in a thousand
steps (the LogMax rule of OpenSeq2Seq's automatic loss scaling). The margin is one bit, two where
fewer than 500 steps were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log2, sqrt
from statistics import fmean

from precscope.facts import StepRecord
from precscope.formats import FP16

NORMAL_QUANTILE_0_999 = 3.09
MANY_STEPS = 500


@dataclass(frozen=True, slots=True)
class Headroom:
    """How far the gradients are from overflow.

    Attributes:
        maximum_log2: largest safe loss scale, log2.
        limiting_site: index of the site that held the largest gradient.
        log2_amax: largest gradient seen, log2.
        mean_log2_amax: mean over steps.
        sd_log2_amax: standard deviation over steps.
        steps: steps with a non-zero gradient.
    """

    maximum_log2: int
    limiting_site: int | None
    log2_amax: float
    mean_log2_amax: float
    sd_log2_amax: float
    steps: int


def headroom(steps: list[StepRecord]) -> Headroom | None:
    """The upper bound; None if no observed step had a finite non-zero gradient."""
    seen = [s for s in steps if 0.0 < s.gradient_amax < float("inf")]
    if not seen:
        return None
    logs = [log2(s.gradient_amax) for s in seen]
    largest = max(seen, key=lambda s: s.gradient_amax)
    mean = fmean(logs)
    sd = sqrt(fmean((log - mean) ** 2 for log in logs))
    expected = max(max(logs), mean + NORMAL_QUANTILE_0_999 * sd)
    margin = 1 if len(seen) >= MANY_STEPS else 2
    return Headroom(
        maximum_log2=floor(log2(FP16.overflow_threshold) - expected) - margin,
        limiting_site=largest.gradient_amax_site,
        log2_amax=max(logs),
        mean_log2_amax=mean,
        sd_log2_amax=sd,
        steps=len(seen),
    )
