"""Drift: how the loss scale that the model needs moves while it trains.

    need(t) = max over gradient sites of the smallest k that the histogram screen accepts in window t

The screen is stricter than a real backward. Where one decided the advised minimum, ``need`` is
shifted to its level, so that the windows in which the backward ran agree with it; up only where a
backward was harmed at a smaller scale. A straight line
through the second half of the windows (the first half is warm-up) gives the slope; it counts where
it moves the need by a bit within that half and exceeds twice its standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from precscope.advice.arbiter import Arbitration
from precscope.advice.drift_needs import Need, sustained
from precscope.advice.drift_trend import trend
from precscope.advice.drift_words import DriftWords, movement
from precscope.advice.loss_scale import LossScaleAdvice

DriftState = Literal["inside", "leaving", "left", "follows", "unknown"]

HORIZON = 10
"""A trend is followed for this many times the observed steps, not further."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Where the needed scale is going.

    Attributes:
        state: ``inside`` the advised scale, about to be ``leaving`` it, has ``left`` it, the
            scale is dynamic and ``follows``, or ``unknown``.
        reason: one sentence.
        needs: the needed scale per window, on the arbiter's level.
        shift_bits: what was added to the screen's to put it there; 0 if no backward ran.
        slope_bits_per_100_steps: of the second half; None with fewer than four windows.
        advised_log2: the static scale that the need is held against; 0 without scaling, None if
            dynamic or unknown.
        leaves_at_step: first step at which more than the advised scale is needed, extrapolated
            if ``leaving``; None if that does not come.
    """

    state: DriftState
    reason: str
    needs: tuple[Need, ...] = ()
    shift_bits: int | None = None
    slope_bits_per_100_steps: float | None = None
    advised_log2: int | None = None
    leaves_at_step: int | None = None


def was_probed(arbitration: Arbitration | None) -> bool:
    """Whether the advised minimum comes from a real backward."""
    return arbitration is not None and arbitration.minimum_log2 is not None


def drift_of(needs: Sequence[Need], advice: LossScaleAdvice, was_probed: bool) -> Drift:
    """Hold the need of every window against the advised scale.

    Args:
        needs: the screen's minimum per window, in order of time.
        advice: the loss scale that is advised.
        was_probed: whether the advised minimum comes from a real backward, not from the screen.
    """
    if not needs or advice.minimum_log2 is None:
        return Drift("unknown", "no gradient was observed over time")
    shift = _shift(needs, advice.minimum_log2, advice.minimum_site) if was_probed else 0
    level = [replace(need, needed_log2=need.needed_log2 + shift) for need in needs]
    slope = trend(level)
    drift = Drift(
        state="follows",
        reason=movement(slope),
        needs=tuple(level),
        shift_bits=shift,
        slope_bits_per_100_steps=None if slope is None else 100 * slope,
        advised_log2=constant_scale(advice),
    )
    if drift.advised_log2 is None:
        return drift
    words = DriftWords(drift.advised_log2, is_scaled=advice.verdict == "static")
    return _against(drift, words, slope)


def constant_scale(advice: LossScaleAdvice) -> int | None:
    """The constant scale that is advised, log2, 0 for none needed; None if it is no constant."""
    return advice.recommended_log2 if advice.verdict in ("static", "not_needed") else None


def _shift(needs: Sequence[Need], minimum_log2: int, minimum_site: str | None) -> int:
    """From the screen's level to the real backward's.

    Where the backward was harmed at no scale (no ``minimum_site``), its level is not known: it is
    the screen's, or below.
    """
    shift = minimum_log2 - _probed_need(sustained(needs))
    return shift if minimum_site is not None else min(shift, 0)


def _probed_need(needs: Sequence[Need]) -> int:
    """The screen where the arbiter looked: a tenth of the way, and at the end."""
    tenth = (needs[-1].last_step + 1) // 10
    early = next(need for need in needs if need.last_step >= tenth)
    return max(early.needed_log2, needs[-1].needed_log2)


def _against(drift: Drift, words: DriftWords, slope: float | None) -> Drift:
    last, limit = drift.needs[-1], words.advised_log2
    peak = max(sustained(drift.needs), key=lambda need: need.needed_log2)
    if peak.needed_log2 > limit:
        reason = words.left(peak)
        return replace(drift, state="left", reason=reason, leaves_at_step=peak.first_step)
    if slope:
        leaves_at = last.last_step + round((limit - last.needed_log2 + 1) / slope)
        if slope > 0.0 and leaves_at <= HORIZON * (last.last_step + 1):
            reason = words.leaving(slope, last, leaves_at)
            return replace(drift, state="leaving", reason=reason, leaves_at_step=leaves_at)
    return replace(drift, state="inside", reason=words.inside(slope, last))
