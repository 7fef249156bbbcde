"""The loss scale: which factor is needed, which is safe, whether one can work at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from precscope.advice.arbiter import Arbitration
from precscope.advice.headroom import Headroom
from precscope.advice.noise import cancelled_parameters
from precscope.advice.screen import (
    GradientSite,
    ScreenPoint,
    minimum_log2_scale,
    screen_point,
    site_minimum,
)

LossScaleVerdict = Literal["not_needed", "static", "dynamic", "impossible", "unknown"]

DRIFT_BITS = 1.5
"""Standard deviation of log2 amax over steps above which one constant is not advised."""

NARROW_WINDOW_BITS = 4
"""Width of the safe window under which a constant has no room for drift."""

CURVE_FROM, CURVE_TO = -12, 24


@dataclass(frozen=True, slots=True)
class LossScaleAdvice:
    """Everything said about the loss scale.

    Attributes:
        verdict: one of the four answers, ``unknown`` if no gradient was seen.
        minimum_log2: smallest scale that keeps the gradients; by the arbiter where it ran, and by
            the screen below the smallest scale that the arbiter tried and found harmless.
        maximum_log2: largest scale that does not overflow.
        recommended_log2: scale to set; 0 if none is needed, None if none works.
        minimum_site: site or parameter that sets the minimum.
        maximum_site: site that sets the maximum.
        screen_minimum_log2: the minimum by histograms alone.
        reason: one sentence that names the evidence.
        curve: the screen at every scale from 2^-12 to 2^24.
    """

    verdict: LossScaleVerdict
    minimum_log2: int | None
    maximum_log2: int | None
    recommended_log2: int | None
    minimum_site: str | None
    maximum_site: str | None
    screen_minimum_log2: int | None
    reason: str
    curve: tuple[ScreenPoint, ...]


def screen_minimum(sites: list[GradientSite], maximum_log2: int | None) -> tuple[int, str] | None:
    """The screen's minimum over all gradient sites, and the site that sets it.

    Args:
        sites: gradient sites at risk, without what is noise.
        maximum_log2: largest safe scale, None if unknown; see ``site_minimum``.
    """
    needs = [
        (site_minimum(h, maximum_log2), f"{s.name} ({s.kind.replace('_', ' ')})") for s, h in sites
    ]
    return max(needs, key=lambda n: n[0]) if needs else None


def advise_loss_scale(
    sites: list[GradientSite],
    room: Headroom | None,
    maximum_site: str | None,
    arbitration: Arbitration | None,
) -> LossScaleAdvice:
    """``judge_loss_scale`` with the curve drawn: what every scale would do to the gradients.

    Args:
        sites: gradient sites at risk, with histograms at true scale.
        room: the upper bound, None if no gradient was seen.
        maximum_site: name of the site that sets the upper bound.
        arbitration: what the shadow backward found, None if it did not run.

    Returns:
        The advice, with a point for each of ``CURVE_FROM`` to ``CURVE_TO``; an ``unknown`` one has
        no curve.
    """
    advice = judge_loss_scale(sites, room, maximum_site, arbitration)
    if advice.verdict == "unknown":
        return advice
    curve = tuple(screen_point(sites, k) for k in range(CURVE_FROM, CURVE_TO + 1))
    return replace(advice, curve=curve)


def judge_loss_scale(
    sites: list[GradientSite],
    room: Headroom | None,
    maximum_site: str | None,
    arbitration: Arbitration | None,
) -> LossScaleAdvice:
    """Put screen, headroom and arbiter together; the curve stays empty.

    Args:
        sites: gradient sites at risk, with histograms at true scale.
        room: the upper bound, None if no gradient was seen.
        maximum_site: name of the site that sets the upper bound.
        arbitration: what the shadow backward found, None if it did not run.
    """
    if room is not None and arbitration is not None and arbitration.overflow_log2 is not None:
        room, maximum_site = _capped(room, arbitration.overflow_log2, maximum_site)
    screened = screen_minimum(sites, None if room is None else room.maximum_log2)
    if screened is None or room is None:
        return _unknown()
    lost = _lost(sites, arbitration, room.maximum_log2)
    minimum, site, how = _minimum(screened, arbitration) if lost is None else lost
    verdict = _verdict(minimum, room)
    return LossScaleAdvice(
        verdict=verdict,
        minimum_log2=minimum,
        maximum_log2=room.maximum_log2,
        recommended_log2=_recommended(verdict, minimum, room.maximum_log2),
        minimum_site=site,
        maximum_site=maximum_site,
        screen_minimum_log2=screened[0],
        reason=how,
        curve=(),
    )


def _capped(room: Headroom, overflow_log2: int, site: str | None) -> tuple[Headroom, str | None]:
    """One bit below the largest scale that a real backward was seen to survive."""
    cap = overflow_log2 - 2
    if cap >= room.maximum_log2:
        return room, site
    return replace(room, maximum_log2=cap), "a gradient between the observed places"


def _lost(
    sites: list[GradientSite], arbitration: Arbitration | None, maximum_log2: int
) -> tuple[int, str, str] | None:
    """A parameter whose gradient the largest safe scale still flushes: its need, name and why.

    Its error is 1 at every safe scale, which noise also has (the bias before a BatchNorm, whose
    true gradient is zero). What tells them apart is whether its values are below the threshold,
    and whether they are what is left of much larger ones that cancelled.
    """
    if arbitration is None:
        return None
    suspects = set(arbitration.lost) - cancelled_parameters(sites)
    needs = [
        (minimum_log2_scale(h, judge_count=False), s.name)
        for s, h in sites
        if s.kind == "weight_gradient" and s.name in suspects
    ]
    need, name = max(needs, default=(maximum_log2, ""))
    if need <= maximum_log2:
        return None
    why = f"of the gradient of {name} nothing is left at 2^{maximum_log2}, in a real FP16 backward"
    return need, f"{name} (weight gradient)", why


def _unknown() -> LossScaleAdvice:
    reason = "no finite non-zero gradient that FP16 would store in half was observed"
    return LossScaleAdvice("unknown", None, None, None, None, None, None, reason, ())


def _minimum(
    screened: tuple[int, str], arbitration: Arbitration | None
) -> tuple[int, str | None, str]:
    if arbitration is None or arbitration.minimum_log2 is None:
        how = (
            "by the histogram screen: no scale was tried"
            if arbitration is None
            else ("by the histogram screen: no tried scale reached the FP16 floor")
        )
        return screened[0], screened[1], how
    real = f"by a real FP16 backward on {arbitration.batches} batches"
    if arbitration.minimum_parameter is None and screened[0] < arbitration.minimum_log2:
        how = (
            f"{real}, which 2^{arbitration.minimum_log2} does not harm; below it by the histograms"
        )
        return screened[0], None, how
    how = (
        f"{real}: the smallest scale tried whose gradient error is within twice the FP16 floor, or "
        f"1 % (the histogram screen alone says 2^{screened[0]})"
    )
    return arbitration.minimum_log2, arbitration.minimum_parameter, how


def _verdict(minimum: int, room: Headroom) -> LossScaleVerdict:
    if minimum > room.maximum_log2:
        return "impossible"
    if minimum <= 0 <= room.maximum_log2:
        return "not_needed"
    narrow = room.maximum_log2 - minimum < NARROW_WINDOW_BITS
    return "dynamic" if narrow or room.sd_log2_amax > DRIFT_BITS else "static"


def _recommended(verdict: LossScaleVerdict, minimum: int, maximum: int) -> int | None:
    """The scale to set.

    None is needed: 0. A constant: the middle of the window. A dynamic scale: the top of the
    window, from which it backs off.
    """
    if verdict == "impossible":
        return None
    if verdict == "not_needed":
        return 0
    return maximum if verdict == "dynamic" else (max(minimum, min(0, maximum)) + maximum) // 2
