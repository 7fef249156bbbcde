"""LossScaler: the rule by which a loss scale moves. Numbers in, a number out; no tensors.

Other dynamic scalers have no floor, lose half their scale to a single bad batch, double every
2000 steps, so that a short run never recovers from an early cut, and double into an overflow that
their own gradients announce. This one

* halves on a step whose gradients are not finite: at once in the first 100 steps, when the scale
  is still being found, later only from the second such step since it last grew
  or could have (hysteresis);
* doubles after ``min(growth_interval, run_length / 10)`` clean steps, if all of them had more than
  2 bits of headroom: bits between the largest scaled weight gradient and 65504;
* doubles sooner, after 10 clean steps in a row with more than 4 bits of headroom;
* returns to a scale that overflowed only by the slow rule, and after twice as many steps for each
  time it did so in vain, up to 8 times as many: activation gradients, which it does not see, may
  be larger than weight gradients;
* stays between a floor and a ceiling, and logs every change with the gradient that caused it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from precscope.formats import FP16
from precscope.recipe import LossScaling

SEARCH_STEPS = 100
"""Steps during which one overflow is enough to lower the scale; two are needed afterwards."""

QUICK_STEPS = 10
"""Clean roomy steps in a row before the scale grows ahead of its interval."""

QUICK_HEADROOM_BITS = 4.0
"""A step is roomy with more headroom than this."""

SLOW_HEADROOM_BITS = 2.0
"""No growth with less headroom than this: one bit is spent by doubling, one is for chance."""

STATE = (
    "log2_scale",
    "growth_interval",
    "_step",
    "_clean_steps",
    "_roomy_steps",
    "_least_headroom",
    "_overflows",
    "_log2_overflowed",
    "_patience",
)
"""Attributes of a LossScaler that a resumed run has to have again."""

MAX_PATIENCE = 8
"""Largest factor on the growth interval before a scale that overflowed is tried again."""

GROWTHS_PER_RUN = 10
"""In a run of known length the scale may grow at least this often."""

LOG2_FP16_MAX = math.log2(FP16.max_finite)


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """One change of the loss scale.

    Attributes:
        step: the step (0 is the first) after which it changed.
        log2_old: scale before, log2.
        log2_new: scale after, log2.
        reason: ``"overflow"``, ``"interval"`` (enough clean steps) or ``"headroom"``.
        parameter: the first parameter whose gradient was not finite; None for growth.
    """

    step: int
    log2_old: int
    log2_new: int
    reason: str
    parameter: str | None


class LossScaler:
    """State of a loss scale.

    Args:
        scaling: kind, initial scale, interval and limits. A ``"static"`` one never moves.
        run_length: steps of the whole run, if known.

    Attributes:
        log2_scale: scale of the next step, log2.
        growth_interval: clean steps before it doubles.
        changes: every change so far, oldest first.
    """

    def __init__(self, scaling: LossScaling, run_length: int | None = None) -> None:
        self._scaling = scaling
        self.log2_scale = scaling.log2_initial
        self.growth_interval = growth_interval(scaling, run_length)
        self.changes: list[ScaleChange] = []
        self._step = 0
        self._clean_steps = 0
        self._roomy_steps = 0
        self._least_headroom = math.inf
        self._overflows = 0
        self._log2_overflowed: int | None = None
        self._patience = 1

    def update(self, log2_amax: float | None, overflowed: str | None) -> None:
        """Account for one step and set the scale of the next.

        Args:
            log2_amax: log2 of the largest scaled weight gradient, None if all of them were zero.
            overflowed: name of a parameter whose scaled gradient was infinite or NaN, None for a
                clean step.
        """
        if overflowed is not None:
            self._after_overflow(overflowed)
        else:
            self._after_clean_step(log2_amax)
        self._step += 1

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, as plain values."""
        values = {name.lstrip("_"): getattr(self, name) for name in STATE}
        return {**values, "changes": [asdict(change) for change in self.changes]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the scaler that gave ``state`` would have."""
        for name in STATE:
            setattr(self, name, state[name.lstrip("_")])
        self.changes = [ScaleChange(**change) for change in state["changes"]]

    def _after_overflow(self, parameter: str) -> None:
        self._start_window()
        self._overflows += 1
        if self._step < SEARCH_STEPS or self._overflows >= 2:
            if self.log2_scale == self._log2_overflowed:
                self._patience = min(2 * self._patience, MAX_PATIENCE)
            self._log2_overflowed = self.log2_scale
            self._change(self.log2_scale - 1, "overflow", parameter)

    def _after_clean_step(self, log2_amax: float | None) -> None:
        headroom = math.inf if log2_amax is None else LOG2_FP16_MAX - log2_amax
        self._least_headroom = min(self._least_headroom, headroom)
        self._clean_steps += 1
        # No gradient at all says nothing about room.
        is_roomy = QUICK_HEADROOM_BITS < headroom < math.inf
        self._roomy_steps = self._roomy_steps + 1 if is_roomy else 0
        retries = self.log2_scale + 1 == self._log2_overflowed
        if self._clean_steps >= self.growth_interval * (self._patience if retries else 1):
            self._grow("interval", self._least_headroom > SLOW_HEADROOM_BITS)
        elif self._roomy_steps >= QUICK_STEPS and not retries:
            self._grow("headroom")

    def _grow(self, reason: str, has_room: bool = True) -> None:
        self._start_window()
        self._overflows = 0
        if has_room:
            self._change(self.log2_scale + 1, reason, None)

    def _start_window(self) -> None:
        self._clean_steps = self._roomy_steps = 0
        self._least_headroom = math.inf

    def _change(self, log2_wanted: int, reason: str, parameter: str | None) -> None:
        if self._scaling.kind != "dynamic":
            return
        log2_new = min(max(log2_wanted, self._scaling.log2_min), self._scaling.log2_max)
        if log2_new != self.log2_scale:
            change = ScaleChange(self._step, self.log2_scale, log2_new, reason, parameter)
            self.changes.append(change)
            self.log2_scale = log2_new


def growth_interval(scaling: LossScaling, run_length: int | None) -> int:
    """``min(growth_interval, run_length / 10)`` steps, at least 1."""
    if run_length is None:
        return scaling.growth_interval
    return min(scaling.growth_interval, max(1, run_length // GROWTHS_PER_RUN))
