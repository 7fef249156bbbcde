"""TrainingRun: what one training by one recipe gave, and how that is judged from its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from precscope.training.scaling import ScaleChange

FINAL_SHARE = 10
"""The final loss is the mean over the last ``1 / FINAL_SHARE`` of the steps, at least one."""

WARM_UP_STEPS = 3
"""First steps left out of the step time: allocation, first use of kernels, memory counting."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall-clock time of a training step, fetching the batch excluded.

    Attributes:
        median_ms: median over the steps after warm-up, in milliseconds.
        p10_ms: first decile, in milliseconds.
        p90_ms: last decile, in milliseconds.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training by one recipe.

    Attributes:
        recipe: name of the recipe.
        description: what it does, in one line.
        device: where it ran.
        simulated: FP16 arithmetic was simulated on a CPU: numbers count, times do not.
        steps: steps taken, skipped ones included.
        seed: seed of weights, batches and dropout.
        losses: unscaled loss of each step, the sum where a step has several; may hold NaN and
            infinity.
        first_loss: loss of the first step; None if not finite.
        final_loss: mean loss over the last tenth of the steps, at least one; None if not finite.
        metrics: of ``evaluate`` after the last step, in the recipe's arithmetic; {} if there is
            no such function or the run diverged.
        skipped_steps: steps in which an update was skipped because a scaled gradient was not
            finite.
        skipped_at: which.
        log2_scales: loss scale in force at each step, log2; () without loss scaling.
        diverged_at: first step of an unbroken tail of losses that are not finite, or the last step
            if it left weights that are not; None if the run did not diverge.
        diverged_reason: which of the two; None if the run did not diverge.
        step_ms: None if the run was too short to time.
        peak_memory_bytes: largest memory allocated by torch during the run; None on a CPU.
        peak_memory_reason: why there is none.
        saved_tensor_bytes: what the first forward saved for backward, parameters excluded.
        weight_bytes: parameters, with their master copies or Kahan compensations.
        gradient_bytes: gradients as backward stored them.
        optimizer_bytes: state of the optimizer after the last step.
        scale_changes: every change of the loss scale, with the gradient that caused it.
        skipped_for: for each skipped step, the first parameter whose gradient was not finite.
        loss_parts: where a step has several losses, each by name; {} where it has one.
    """

    recipe: str
    description: str
    device: str
    simulated: bool
    steps: int
    seed: int
    losses: tuple[float, ...]
    first_loss: float | None
    final_loss: float | None
    metrics: dict[str, float]
    skipped_steps: int
    skipped_at: tuple[int, ...]
    log2_scales: tuple[float, ...]
    diverged_at: int | None
    diverged_reason: str | None
    step_ms: StepTime | None
    peak_memory_bytes: int | None
    peak_memory_reason: str | None
    saved_tensor_bytes: int | None
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    scale_changes: tuple[ScaleChange, ...] = ()
    skipped_for: tuple[str | None, ...] = ()
    loss_parts: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; losses that are not finite become "NaN", "Infinity" and "-Infinity"."""
        step = self.step_ms
        times = {"median": step.median_ms, "p10": step.p10_ms, "p90": step.p90_ms} if step else None
        return {
            **asdict(self),
            "losses": [json_number(loss) for loss in self.losses],
            "metrics": {name: finite_or_none(value) for name, value in self.metrics.items()},
            "skipped_at": list(self.skipped_at),
            "skipped_for": list(self.skipped_for),
            "log2_scales": list(self.log2_scales),
            "step_ms": times,
            "scale_changes": [asdict(change) for change in self.scale_changes],
            "loss_parts": {
                name: [json_number(loss) for loss in losses]
                for name, losses in self.loss_parts.items()
            },
        }


def json_number(value: float) -> float | str:
    """The number; ``"NaN"``, ``"Infinity"`` or ``"-Infinity"`` where JSON has none."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def finite_or_none(value: float) -> float | None:
    """The number; None for NaN and infinity."""
    return value if math.isfinite(value) else None


def final_loss(losses: Sequence[float]) -> float | None:
    """Mean of the last tenth of the losses, at least one; None if not finite or there are none."""
    if not losses:
        return None
    tail = losses[-max(1, len(losses) // FINAL_SHARE) :]
    return finite_or_none(sum(tail) / len(tail))


def divergence(losses: Sequence[float], weights_are_finite: bool) -> tuple[int, str] | None:
    """First step and reason of a divergence that lasted to the end; None if there was none.

    A loss that is not finite but is followed by finite ones is no divergence: that step was
    skipped.
    """
    start = len(losses)
    while start and not math.isfinite(losses[start - 1]):
        start -= 1
    if start < len(losses):
        return start, f"the loss is {json_number(losses[start])} at step {start} and never recovers"
    if not weights_are_finite and losses:
        return start - 1, f"step {start - 1} leaves weights that are not finite"
    return None


def step_time(seconds: Sequence[float]) -> StepTime | None:
    """Median and 10th and 90th percentile after the warm-up; None if nothing is left."""
    timed = seconds[WARM_UP_STEPS:]
    if not timed:
        return None
    p10, median, p90 = (float(p) * 1e3 for p in np.percentile(timed, [10, 50, 90]))
    return StepTime(median_ms=median, p10_ms=p10, p90_ms=p90)
