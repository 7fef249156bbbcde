"""train: one training of a workload by one recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from os import PathLike
from time import perf_counter
from typing import Any, Protocol

import torch

from precscope.recipe import Recipe
from precscope.training.memory import gradient_bytes, optimizer_bytes, saved_tensors
from precscope.training.mixed_precision import MixedPrecision
from precscope.training.training_run import (
    TrainingRun,
    divergence,
    final_loss,
    finite_or_none,
    step_time,
)

PATIENCE_STEPS = 25
"""A run ends early after this many losses in a row that are not finite."""

Progress = Callable[[int, int, float], None]
"""``progress(steps_done, steps, loss)``, after every step."""

OnStep = Callable[[int, float, MixedPrecision], None]
"""``on_step(step, loss, trainer)``, after every step, outside the timing."""


class TrainableSession(Protocol):
    """A fresh model and optimizer, and batches, under one seed."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def batches(self) -> Iterator[Any]:
        """Batches without end."""

    def loss(self, batch: Any) -> torch.Tensor:
        """The scalar to minimise."""

    def evaluate(self) -> dict[str, float]:
        """Metrics of the model as it is."""


class TrainableWorkload(Protocol):
    """What can be trained again and again from the same start."""

    def session(self, seed: int, device: str) -> TrainableSession:
        """Seed everything, then build a new model and optimizer."""


@dataclass(slots=True)
class _Measured:
    """What a run leaves behind, step by step."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    log2_scales: list[float] = field(default_factory=list)
    skipped_at: list[int] = field(default_factory=list)
    overflowed: list[str | None] = field(default_factory=list)
    saved_tensor_bytes: int | None = None
    gradient_bytes: int = 0


def train(
    workload: TrainableWorkload,
    recipe: str | PathLike[str] | Recipe,
    steps: int,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Train a fresh model for ``steps`` steps and report how it went.

    The same seed gives every recipe the same initial weights, batches and random stream. A run
    that diverges is a result: it ends after 25 losses in a row that are not finite.

    Args:
        workload: makes the session.
        recipe: a name, a Recipe, or the path of a recipe file.
        steps: how many, at least 1.
        seed: of weights, batches, dropout and stochastic rounding.
        device: a torch device.
        progress: called after every step with steps done, steps wanted, and the loss.
        on_step: called after every step with its index, the loss and the trainer.

    Raises:
        UsageError: see ``MixedPrecision``.
    """
    session = workload.session(seed, device)
    chosen = Recipe.of(recipe)
    is_cuda = torch.device(device).type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    model, optimizer = session.model, session.optimizer
    with MixedPrecision(model, optimizer, chosen, run_length=steps, seed=seed) as trainer:
        measured = _Measured()
        for step, batch in zip(range(steps), session.batches(), strict=False):
            _take_step(session, trainer, batch, measured)
            loss = measured.losses[-1]
            if on_step is not None:
                on_step(step, loss, trainer)
            if progress is not None:
                progress(step + 1, steps, loss)
            if _has_given_up(measured.losses):
                break
        end = divergence(measured.losses, _weights_are_finite(model))
        return TrainingRun(
            recipe=chosen.name,
            description=_description(chosen, device),
            device=device,
            simulated=trainer.simulated,
            steps=len(measured.losses),
            seed=seed,
            losses=tuple(measured.losses),
            first_loss=finite_or_none(measured.losses[0]) if measured.losses else None,
            final_loss=final_loss(measured.losses),
            metrics={} if end else _evaluate(session, trainer),
            skipped_steps=trainer.skipped_steps,
            skipped_at=tuple(measured.skipped_at),
            log2_scales=tuple(measured.log2_scales),
            diverged_at=end[0] if end else None,
            diverged_reason=end[1] if end else None,
            step_ms=step_time(measured.seconds),
            peak_memory_bytes=torch.cuda.max_memory_allocated(device) if is_cuda else None,
            peak_memory_reason=None if is_cuda else "torch keeps no peak of a CPU's memory",
            saved_tensor_bytes=measured.saved_tensor_bytes,
            weight_bytes=trainer.weight_bytes(),
            gradient_bytes=measured.gradient_bytes,
            optimizer_bytes=optimizer_bytes(optimizer),
            scale_changes=tuple(trainer.scale_changes),
            skipped_for=tuple(measured.overflowed),
        )


def _take_step(
    session: TrainableSession, trainer: MixedPrecision, batch: Any, measured: _Measured
) -> None:
    first = not measured.losses
    if trainer.log2_scale is not None:
        measured.log2_scales.append(trainer.log2_scale)
    start = perf_counter()
    with saved_tensors(session.model) if first else nullcontext() as saved, trainer.autocast():
        loss = session.loss(batch)
    trainer.backward(loss)
    if first:
        measured.saved_tensor_bytes = saved.bytes if saved else None
        measured.gradient_bytes = gradient_bytes(session.model)
    updated = trainer.update()
    measured.losses.append(float(loss.detach()))  # on CUDA this waits for the whole step
    measured.seconds.append(perf_counter() - start)
    if not updated:
        measured.skipped_at.append(len(measured.losses) - 1)
        measured.overflowed.append(trainer.overflowed)


def _evaluate(session: TrainableSession, trainer: MixedPrecision) -> dict[str, float]:
    with trainer.autocast():
        return session.evaluate()


def _has_given_up(losses: list[float]) -> bool:
    tail = losses[-PATIENCE_STEPS:]
    return len(tail) == PATIENCE_STEPS and not any(map(math.isfinite, tail))


def _weights_are_finite(model: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(p.detach()).all()) for p in model.parameters())


def _description(recipe: Recipe, device: str) -> str:
    if recipe.tf32 and torch.device(device).type != "cuda":
        return f"{recipe.description} (this device has none: plain float32)"
    return recipe.description
