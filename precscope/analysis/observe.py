"""Observe: train in FP32 under the monitor, and try loss scales on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from precscope.analysis.options import AnalysisOptions, Progress
from precscope.analysis.plain_steps import plain_step
from precscope.arithmetic.storage import convertible_parameters
from precscope.monitor import Monitor, Schedule
from precscope.monitor.sink import Sink
from precscope.probes.autocast_dtypes import autocast_dtypes
from precscope.workload import Session, SteppingSession, Workload, check_first_loss

WINDOWS = 16
"""Windows of statistics that an analysis aims at: enough to see drift, few enough to draw."""

PROBE_BATCHES = 2
"""Most batches at hand for a stage; where the screen asks for no scale one of them is enough."""

PROBE_LIMITS = {
    "losses of step() after its first update": "probes of scales, ranges and sums take no step:"
    " they see every loss at the weights from before it, several losses of one optimizer added up",
    "the model's input": "step() calls parts of the model: what it hands them is not watched as"
    " an input",
}
"""What is not seen of a workload with several losses, and why."""

Probe = Callable[[Session, list[Any]], None]


def probe_steps(steps: int) -> tuple[int, ...]:
    """Steps before which gradients are probed: a tenth of the way, and the last.

    The scale a model needs drifts while it trains; one early look would miss it.
    """
    return tuple(sorted({steps // 10, steps - 1}))


def observe(
    workload: Workload,
    facts: Sink,
    device: torch.device,
    options: AnalysisOptions,
    probe: Probe,
    progress: Progress,
) -> int:
    """Train ``options.steps`` FP32 steps and record them; returns the observers' bytes.

    Raises:
        WorkloadError: the model file is at fault, with what to change.
    """
    check_first_loss(workload.session(options.seed, str(device)))
    session = workload.session(options.seed, str(device))
    dtypes = _dtypes(session)
    facts.put_document("half_weights", list(convertible_parameters(session.model)))
    observed = -(-options.steps // options.every)
    monitor = Monitor(
        session.model,
        session.optimizer,
        facts,
        schedule=Schedule(every=options.every, stop=options.steps),
        window_steps=max(1, observed // WINDOWS),
        autocast_dtypes=dtypes,
    )
    with monitor:
        _train(session, monitor, options.steps, probe, progress)
    if isinstance(session, SteppingSession):
        facts.put_document("coverage", with_probe_limits(monitor.coverage()))
        facts.flush()
    return monitor.memory_bytes


def with_probe_limits(coverage: dict[str, Any]) -> dict[str, Any]:
    """The coverage of a workload with several losses, with what the probes cannot see of it."""
    skipped = [
        {"what": what, "reason": reason, "count": 1} for what, reason in PROBE_LIMITS.items()
    ]
    return {**coverage, "tensors_skipped": [*coverage["tensors_skipped"], *skipped]}


def _dtypes(session: Session) -> dict[tuple[str, str], str]:
    batch = next(session.batches())
    return autocast_dtypes(session.model, lambda: session.loss(batch), session.device.type)


def _train(
    session: Session, monitor: Monitor, steps: int, probe: Probe, progress: Progress
) -> None:
    batches = session.batches()
    recent: deque[Any] = deque(maxlen=PROBE_BATCHES)
    stages = probe_steps(steps)
    take_step = plain_step(session, monitor.record_loss)
    for step in range(steps):
        batch = next(batches)
        recent.append(batch)
        if step in stages:
            monitor.flush()
            with monitor.paused():
                probe(session, list(recent))
        loss = take_step(batch)
        progress.advance(step + 1, f"loss {float(loss):.4g}")
