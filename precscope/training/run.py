"""train: one training of a workload by one recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike

import torch

from precscope.recipe import Recipe
from precscope.training.measuring import Measured, take_step
from precscope.training.memory import optimizer_bytes
from precscope.training.mixed_precision import MixedPrecision
from precscope.training.sessions import TrainableSession as TrainableSession
from precscope.training.sessions import TrainableWorkload as TrainableWorkload
from precscope.training.sessions import optimizers_of
from precscope.training.training_run import (
    TrainingRun,
    divergence,
    final_loss,
    finite_or_none,
    step_time,
)
from precscope.workload.optimizers import named_optimizers

PATIENCE_STEPS = 25
"""A run ends early after this many losses in a row that are not finite."""

NO_PEAK = "torch keeps no peak of a CPU's memory"

Progress = Callable[[int, int, float], None]
"""``progress(steps_done, steps, loss)``, after every step."""

OnStep = Callable[[int, float, MixedPrecision], None]
"""``on_step(step, loss, trainer)``, after every step, outside the timing."""


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
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    optimizers = optimizers_of(session)
    with MixedPrecision(session.model, optimizers, chosen, run_length=steps, seed=seed) as trainer:
        measured = _trained(session, trainer, steps, progress, on_step)
        return _run(session, trainer, measured, seed, device)


def _trained(
    session: TrainableSession,
    trainer: MixedPrecision,
    steps: int,
    progress: Progress | None,
    on_step: OnStep | None,
) -> Measured:
    measured = Measured()
    for step, batch in zip(range(steps), session.batches(), strict=False):
        take_step(session, trainer, batch, measured)
        loss = measured.losses[-1]
        if on_step is not None:
            on_step(step, loss, trainer)
        if progress is not None:
            progress(step + 1, steps, loss)
        if _has_given_up(measured.losses):
            break
    return measured


def _run(
    session: TrainableSession,
    trainer: MixedPrecision,
    measured: Measured,
    seed: int,
    device: str,
) -> TrainingRun:
    losses, recipe = measured.losses, trainer.recipe
    end = divergence(losses, _weights_are_finite(session.model))
    is_cuda = torch.device(device).type == "cuda"
    held = named_optimizers(optimizers_of(session)).values()
    return TrainingRun(
        recipe=recipe.name,
        description=_description(recipe, device),
        device=device,
        simulated=trainer.simulated,
        steps=len(losses),
        seed=seed,
        losses=tuple(losses),
        first_loss=finite_or_none(losses[0]) if losses else None,
        final_loss=final_loss(losses),
        metrics={} if end else _evaluate(session, trainer),
        skipped_steps=len(measured.skipped_at),
        skipped_at=tuple(measured.skipped_at),
        log2_scales=tuple(measured.log2_scales),
        diverged_at=end[0] if end else None,
        diverged_reason=end[1] if end else None,
        step_ms=step_time(measured.seconds),
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if is_cuda else None,
        peak_memory_reason=None if is_cuda else NO_PEAK,
        saved_tensor_bytes=measured.saved_tensor_bytes if losses else None,
        weight_bytes=trainer.weight_bytes(),
        gradient_bytes=measured.gradient_bytes,
        optimizer_bytes=sum(optimizer_bytes(optimizer) for optimizer in held),
        scale_changes=tuple(trainer.scale_changes),
        skipped_for=tuple(measured.overflowed),
        loss_parts={name: tuple(values) for name, values in measured.parts.items()},
    )


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
