"""The histogram screen: what each candidate loss scale would flush, from one FP32 recording.

    lost mass   M_s(k) = share of sum |g| at site s that is flushed after a scale by 2^k
    lost count  N_s(k) = the same by number of non-zero values
    k_L = max over sites of the smallest k with M_s(k) <= 1e-3 and N_s(k) <= 0.05

Count overstates the harm and energy understates it, because flushed values share a sign and add
up coherently; L1 mass is the least bad proxy. The count is therefore obeyed as far as scaling is
free, up to the largest safe scale, and never beyond: the bias of an attention's keys, whose true
gradient is zero, holds nothing but noise by count. It is a screen: the shadow backward decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from precscope.advice.risk import at_risk
from precscope.facts import GRADIENT_KINDS, Site
from precscope.formats import FP16
from precscope.histogram import ExponentHistogram

L1_LOST_LIMIT = 1e-3
COUNT_LOST_LIMIT = 0.05
"""The share Fig. 2b of the paper reports for weight gradients: a convention, strict on purpose,
because scaling is free."""

GradientSite = tuple[Site, ExponentHistogram]


@dataclass(frozen=True, slots=True)
class ScreenPoint:
    """What a loss scale of ``2^log2_scale`` does to the recorded gradients.

    Attributes:
        log2_scale: the scale.
        l1_lost: largest share of sum |g| flushed at any site.
        l1_site: that site.
        count_lost: share of all non-zero gradient values flushed.
        overflow: share of all non-zero gradient values that overflow.
    """

    log2_scale: int
    l1_lost: float
    l1_site: str | None
    count_lost: float
    overflow: float


def gradient_sites(sites: list[tuple[Site, ExponentHistogram]]) -> list[GradientSite]:
    """The gradient sites that FP16 stores in half and that hold a finite non-zero value."""
    return [(s, h) for s, h in sites if is_half_gradient(s) and h.nonzero > 0]


def is_half_gradient(site: Site) -> bool:
    """Whether it is a gradient that FP16 stores in half."""
    return site.kind in GRADIENT_KINDS and at_risk(site)


def site_minimum(histogram: ExponentHistogram, maximum_log2: int | None) -> int:
    """The site's smallest scale; above ``maximum_log2``, if given, by its mass alone."""
    need = minimum_log2_scale(histogram)
    if maximum_log2 is None or need <= maximum_log2:
        return need
    return max(minimum_log2_scale(histogram, judge_count=False), maximum_log2)


def minimum_log2_scale(histogram: ExponentHistogram, judge_count: bool = True) -> int:
    """Smallest k for which the site loses neither 1e-3 of its mass nor 5 % of its values.

    Args:
        histogram: the site's gradients at true scale.
        judge_count: False to look at the mass only.
    """
    count_limit = COUNT_LOST_LIMIT if judge_count else 1.0
    return histogram.log2_scale_that_keeps(FP16, L1_LOST_LIMIT, count_limit)


def screen_point(sites: list[GradientSite], k: int) -> ScreenPoint:
    """Losses of all gradient sites together at the scale ``2^k``."""
    total = sum(h.nonzero for _, h in sites)
    flushed = sum(h.flushed_count(FP16, k) for _, h in sites)
    overflowing = sum(h.overflow_count(FP16, k) for _, h in sites)
    worst = max(((h.l1_flushed_fraction(FP16, k), s.name) for s, h in sites), default=(0.0, None))
    return ScreenPoint(
        k,
        worst[0],
        worst[1] if worst[0] > 0 else None,
        flushed / total if total else 0.0,
        overflowing / total if total else 0.0,
    )
