"""Timing whole steps: warm up, then steps until the window is long enough; nothing waits inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from precscope.timing.clocks import Clock, Mark
from precscope.timing.nvml import Nvml
from precscope.timing.sampler import Sampler
from precscope.timing.windows import summary


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure.

    Attributes:
        warm_up_steps: at least, before timing.
        steady_ratio: warm up until two neighbouring steps differ by less.
        warm_up_s: at most.
        steps: timed, at least.
        seconds: of the window, at least.
        rounds: blocks of each recipe, in alternating order.
        limit_s: no pass is begun after so long.
        rest_s: of it, kept for the passes after the blocks: no further round is begun then.
    """

    warm_up_steps: int = 5
    steady_ratio: float = 0.02
    warm_up_s: float = 30.0
    steps: int = 20
    seconds: float = 4.5
    rounds: int = 2
    limit_s: float = float("inf")
    rest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Block:
    """One timed window.

    Attributes:
        step_ms: of each step, by the clock.
        window_s: host time from the first step's start to the last one's end.
        nvml: what was read in the window; None without NVML.
        sm_clock_mhz: median; None without NVML.
    """

    step_ms: tuple[float, ...]
    window_s: float
    nvml: dict[str, Any] | None

    @property
    def median_ms(self) -> float:
        """Median step."""
        return float(median(self.step_ms))

    @property
    def sm_clock_mhz(self) -> float | None:
        """Median clock of the multiprocessors; None without NVML."""
        found = (self.nvml or {}).get("sm_clock_median_mhz")
        return None if found is None else float(found)


def time_block(step: Callable[[], object], clock: Clock, plan: Plan, nvml: Nvml | None) -> Block:
    """Warm up and time one block of steps."""
    warm_up(step, clock, plan)
    sampler = Sampler(nvml) if nvml is not None else None
    with sampler or nullcontext():
        clock.wait()
        first_ns = time.perf_counter_ns()
        step_ms = timed_steps(step, clock, plan)
        last_ns = time.perf_counter_ns()
    found = None
    if sampler is not None:
        found = summary(sampler.readings, first_ns, last_ns, len(step_ms), float(median(step_ms)))
    return Block(tuple(step_ms), (last_ns - first_ns) / 1e9, found)


def warm_up(step: Callable[[], object], clock: Clock, plan: Plan) -> int:
    """Take steps until two in a row take the same time; how many that were."""
    begun, before = time.perf_counter(), float("inf")
    for taken in range(1, 10_000):
        start = time.perf_counter()
        step()
        clock.wait()
        took = time.perf_counter() - start
        is_steady = abs(took - before) <= plan.steady_ratio * before
        if taken >= plan.warm_up_steps and (
            is_steady or time.perf_counter() - begun > plan.warm_up_s
        ):
            return taken
        before = took
    return taken


def timed_steps(step: Callable[[], object], clock: Clock, plan: Plan) -> list[float]:
    """Time of each step in ms. The host runs ahead; finished pairs of marks are read as it goes."""
    waiting: list[tuple[Mark, Mark]] = []
    found: list[float] = []
    taken, begun = 0, time.perf_counter()
    while taken < plan.steps or time.perf_counter() - begun < plan.seconds:
        start = clock.mark()
        step()
        waiting.append((start, clock.mark()))
        taken += 1
        while waiting and clock.is_done(waiting[0][1]):
            found.append(_read(clock, *waiting.pop(0)))
    clock.wait()
    return [*found, *(_read(clock, *pair) for pair in waiting)]


def _read(clock: Clock, start: Mark, end: Mark) -> float:
    found = clock.elapsed_ms(start, end)
    clock.free(start)
    clock.free(end)
    return found


def spread(step_ms: tuple[float, ...]) -> dict[str, float]:
    """Median, 10th and 90th percentile."""
    p10, middle, p90 = (float(value) for value in np.percentile(step_ms, [10, 50, 90]))
    return {"median": middle, "p10": p10, "p90": p90}
