"""The cost of observing, measured on this workload: printed in every report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any

import torch

from precscope.analysis.options import AnalysisOptions
from precscope.analysis.plain_steps import plain_step
from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink
from precscope.probes.cost import measure_cost
from precscope.workload import Session, Workload

SECONDS = 4.0
MAX_ROUNDS = 40
MIN_ROUNDS = 5
BATCHES = 2


def observation_cost(
    workload: Workload, device: torch.device, options: AnalysisOptions
) -> dict[str, Any]:
    """Step time with every observer on beside the plain step, two sessions, interleaved.

    All kinds are observed in every step of the one session and in none of the other; batches are
    made beforehand, so that the user's data loading is in neither time.
    """
    plain = workload.session(options.seed, str(device))
    batches = list(islice(plain.batches(), BATCHES))
    watched = workload.session(options.seed, str(device))
    plain_step = _stepper(plain, cycle(batches))
    with Monitor(watched.model, watched.optimizer, NullSink(), window_steps=16):
        cost = measure_cost(plain_step, _stepper(watched, cycle(batches)), _rounds(plain_step))
    return {
        "plain_step_ms": cost.plain_step_ms,
        "observed_step_ms": cost.observed_step_ms,
        "overhead_ratio": cost.ratio,
        "ratio_p10": cost.ratios_p10_p90[0],
        "ratio_p90": cost.ratios_p10_p90[1],
    }


def _rounds(step: Callable[[], None]) -> int:
    step()
    start = time.perf_counter()
    step()
    seconds = max(time.perf_counter() - start, 1e-4)
    return max(MIN_ROUNDS, min(MAX_ROUNDS, int(SECONDS / 2 / seconds)))


def _stepper(session: Session, batches: Iterator[Any]) -> Callable[[], None]:
    take_step = plain_step(session)

    def step() -> None:
        take_step(next(batches))
        if session.device.type == "cuda":
            torch.cuda.synchronize(session.device)

    return step
