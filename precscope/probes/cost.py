"""What observing costs: plain and observed steps of the same workload, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class ObservationCost:
    """Medians over interleaved steps of one process.

    Attributes:
        plain_step_ms: an unobserved training step.
        observed_step_ms: a step with every observer on.
        ratios_p10_p90: tenth and ninetieth percentile of the ratio of neighbouring steps.
    """

    plain_step_ms: float
    observed_step_ms: float
    ratios_p10_p90: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Observed over plain, of the medians."""
        return self.observed_step_ms / self.plain_step_ms


def measure_cost(
    plain_step: Callable[[], None], observed_step: Callable[[], None], rounds: int, warmup: int = 2
) -> ObservationCost:
    """Time ``rounds`` pairs of steps, alternating which of the pair goes first.

    Both callables must finish their work before they return (on CUDA: synchronise).
    """
    for _ in range(warmup):
        plain_step()
        observed_step()
    plain_ms: list[float] = []
    observed_ms: list[float] = []
    for i in range(rounds):
        pair = [(plain_step, plain_ms), (observed_step, observed_ms)]
        for step, times in pair if i % 2 == 0 else reversed(pair):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
    ratios = sorted(o / p for o, p in zip(observed_ms, plain_ms, strict=True))
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    return ObservationCost(median(plain_ms), median(observed_ms), (low, high))
