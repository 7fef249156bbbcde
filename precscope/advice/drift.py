"""Drift: how the loss scale that the model needs moves while it trains.

    need(t) = max over gradient sites of the smallest k that the histogram screen accepts in window t

The screen is stricter than a real backward. Where one decided the advised minimum, ``need`` is
shifted to its level: so that the windows in which the backward ran agree with it. A straight line
through the second half of the windows (the first half is warm-up) gives the slope; it counts where
it moves the need by a bit within that half and exceeds twice its standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from precscope.advice.arbiter import Arbitration
from precscope.advice.evidence import Evidence
from precscope.advice.findings import Finding
from precscope.advice.loss_scale import LossScaleAdvice
from precscope.advice.residual import Residual
from precscope.advice.risk import at_risk
from precscope.advice.screen import COUNT_LOST_LIMIT, L1_LOST_LIMIT, site_minimum
from precscope.facts import GRADIENT_KINDS, Window
from precscope.formats import FP16
from precscope.recipe import LossScaling

DriftState = Literal["inside", "leaving", "left", "follows", "unknown"]

MIN_WINDOWS = 4
"""Fewer windows than this show no trend."""

HORIZON = 10
"""A trend is followed for this many times the observed steps, not further."""

_DEFAULTS = LossScaling()

MOVEMENT_BITS = 1.0
"""Scales are set in whole powers of two: less movement than this changes nothing."""


@dataclass(frozen=True, slots=True)
class Need:
    """The screen's minimum in one window.

    Attributes:
        first_step: first observed step.
        last_step: last observed step, inclusive.
        needed_log2: smallest scale that the screen accepts for every site, log2.
        site: the site that sets it.
    """

    first_step: int
    last_step: int
    needed_log2: int
    site: str


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


def needs_over_time(evidence: Evidence, maximum_log2: int | None) -> list[Need]:
    """The screen's minimum of each window of the recording, in order of time.

    Args:
        evidence: of the recording.
        maximum_log2: largest safe scale, above which only mass is judged; see ``site_minimum``.
    """
    worst: dict[tuple[int, int], Need] = {}
    for index, site in enumerate(evidence.recording.sites):
        if site.kind not in GRADIENT_KINDS or not at_risk(site):
            continue
        name = f"{site.name} ({site.kind.replace('_', ' ')})"
        for window in evidence.recording.windows(index):
            span = (window.first_step, window.last_step)
            known = worst.get(span)
            if not window.histogram.nonzero or (known and _accepts(window, known.needed_log2)):
                continue
            need = site_minimum(window.histogram, maximum_log2)
            if known is None or need > known.needed_log2:
                worst[span] = Need(*span, need, name)
    return [worst[span] for span in sorted(worst)]


def _accepts(window: Window, k: int) -> bool:
    """Whether a scale that another site needs is enough here: much cheaper than the search."""
    return (
        window.histogram.flushed_fraction(FP16, k) <= COUNT_LOST_LIMIT
        and window.histogram.l1_flushed_fraction(FP16, k) <= L1_LOST_LIMIT
    )


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
    shift = advice.minimum_log2 - _probed_need(sustained(needs)) if was_probed else 0
    level = [replace(need, needed_log2=need.needed_log2 + shift) for need in needs]
    slope = trend(level)
    drift = Drift(
        state="follows",
        reason=_movement(slope),
        needs=tuple(level),
        shift_bits=shift,
        slope_bits_per_100_steps=None if slope is None else 100 * slope,
        advised_log2=constant_scale(advice),
    )
    return drift if drift.advised_log2 is None else _against(drift, drift.advised_log2, slope)


def sustained(needs: Sequence[Need]) -> list[Need]:
    """The needs without peaks of a single window: ``min(need_t, max(need_t-1, need_t+1))``.

    In one window a bias of ten elements can exceed 5 % by a single value.
    """
    found = list(needs)
    for i, need in enumerate(needs):
        beside = [needs[j].needed_log2 for j in (i - 1, i + 1) if 0 <= j < len(needs)]
        if beside and max(beside) < need.needed_log2:
            found[i] = replace(need, needed_log2=max(beside))
    return found


def constant_scale(advice: LossScaleAdvice) -> int | None:
    """The constant scale that is advised, log2, 0 for none needed; None if it is no constant."""
    return advice.recommended_log2 if advice.verdict in ("static", "not_needed") else None


def _probed_need(needs: Sequence[Need]) -> int:
    """The screen where the arbiter looked: a tenth of the way, and at the end."""
    tenth = (needs[-1].last_step + 1) // 10
    early = next(need for need in needs if need.last_step >= tenth)
    return max(early.needed_log2, needs[-1].needed_log2)


def trend(needs: Sequence[Need]) -> float | None:
    """Bits per step that the need moves in the second half of the windows.

    The slope of the least squares line; 0.0 where it moves the need by less than a bit or is
    within twice its standard error; None with fewer than four windows.
    """
    half = needs[-max(MIN_WINDOWS, len(needs) // 2) :]
    if len(half) < MIN_WINDOWS:
        return None
    steps = [(need.first_step + need.last_step) / 2 for need in half]
    slope, error = _line(steps, [float(need.needed_log2) for need in half])
    moves = abs(slope) * (steps[-1] - steps[0]) >= MOVEMENT_BITS
    return slope if moves and abs(slope) > 2 * error else 0.0


def _line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the least squares line and its standard error."""
    mean_x, mean_y = fmean(x), fmean(y)
    squares = sum((a - mean_x) ** 2 for a in x)
    if squares == 0.0:
        return 0.0, 0.0
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / squares
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, (rest / (len(x) - 2) / squares) ** 0.5


def _against(drift: Drift, limit: int, slope: float | None) -> Drift:
    last = drift.needs[-1]
    peak = max(sustained(drift.needs), key=lambda need: need.needed_log2)
    if peak.needed_log2 > limit:
        several = peak.last_step > peak.first_step
        when = f"in step{'s' if several else ''} {peak.first_step}"
        when += f" to {peak.last_step}" if several else ""
        reason = f"{when} 2^{peak.needed_log2} is needed, more than the advised 2^{limit}"
        return replace(drift, state="left", reason=reason, leaves_at_step=peak.first_step)
    margin = limit - last.needed_log2
    where = f"{drift.reason}; at step {last.last_step} 2^{last.needed_log2} is needed"
    if slope:
        leaves_at = last.last_step + round((margin + 1) / slope)
        if slope > 0.0 and leaves_at <= HORIZON * (last.last_step + 1):
            reason = (
                f"{where}, and at this rate more than the advised 2^{limit} from step {leaves_at}"
            )
            return replace(drift, state="leaving", reason=reason, leaves_at_step=leaves_at)
    return replace(drift, state="inside", reason=f"{where}, the advised scale is 2^{limit}")


def _movement(slope: float | None) -> str:
    if slope is None:
        return "too few windows to see the needed scale move"
    if slope == 0.0:
        return "the needed scale does not move"
    word = "rises" if slope > 0.0 else "falls"
    return f"the needed scale {word} by {abs(100 * slope):.2g} bits per 100 steps"


def drift_findings(drift: Drift, residual: Residual) -> list[Finding]:
    """A finding where the need has left the advised scale or is about to.

    A warning, unless the advised run was measured beyond that step and was still at its floor.
    """
    if drift.state not in ("left", "leaving"):
        return []
    disproved = _still_at_floor(drift, residual)
    run = f"; the advised run was still at its floor after step {disproved}" if disproved else ""
    return [
        Finding(
            "scale_drift",
            "advice" if disproved else "warning",
            None,
            f"{drift.reason[:1].upper()}{drift.reason[1:]} (by the histograms of each window){run}",
            "scale dynamically, or observe a longer part of the training and advise again",
            _dynamic_code(max(need.needed_log2 for need in drift.needs) + 3),
            {
                "advised_log2": drift.advised_log2,
                "needed_log2_at_end": drift.needs[-1].needed_log2,
                "slope_bits_per_100_steps": drift.slope_bits_per_100_steps,
                "leaves_at_step": drift.leaves_at_step,
            },
        )
    ]


def _dynamic_code(log2_initial: int) -> str:
    limits = f", log2_min={log2_initial}" if log2_initial < _DEFAULTS.log2_min else ""
    limits += f", log2_max={log2_initial}" if log2_initial > _DEFAULTS.log2_max else ""
    return (
        "from dataclasses import replace\n"
        "from precscope.recipe import LossScaling\n"
        f'scaling = LossScaling(kind="dynamic", log2_initial={log2_initial}{limits})\n'
        'recipe = replace(recipe, loss_scaling=scaling, scaler="precscope")'
    )


def _still_at_floor(drift: Drift, residual: Residual) -> int | None:
    """Last step, not before the one the trend points at, whose error was as small as it gets."""
    points = [p for p in residual.points if p.excess is not None and p.excess <= 1.0]
    last = max((point.step for point in points), default=-1)
    beyond = drift.leaves_at_step is not None and last >= drift.leaves_at_step
    return last if beyond else None
