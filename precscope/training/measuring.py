"""One measured training step, of either kind of session."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch

from precscope.training.memory import SavedTensors, gradient_bytes, saved_tensors
from precscope.training.mixed_precision import MixedPrecision
from precscope.training.sessions import SteppingSession, TrainableSession, is_stepping


@dataclass(slots=True)
class Measured:
    """What a run leaves behind, step by step.

    Attributes:
        losses: loss of each step; with several losses their sum.
        parts: of each step with several losses, each by name.
        seconds: time of each step, fetching the batch excluded.
        log2_scales: loss scale at the start of each step; [] without loss scaling.
        skipped_at: steps in which an update was skipped.
        overflowed: for each of those, the parameter whose gradient was not finite.
        saved_tensor_bytes: what forward saved for backward in the first step; with several
            updates in a step the largest that a backward found.
        gradient_bytes: gradients that a backward of the first step left, the largest.
    """

    losses: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    log2_scales: list[float] = field(default_factory=list)
    skipped_at: list[int] = field(default_factory=list)
    overflowed: list[str | None] = field(default_factory=list)
    saved_tensor_bytes: int = 0
    gradient_bytes: int = 0


def take_step(
    session: TrainableSession, trainer: MixedPrecision, batch: Any, measured: Measured
) -> None:
    """Take one training step and note what it did."""
    if trainer.log2_scale is not None:
        measured.log2_scales.append(trainer.log2_scale)
    skipped_before = trainer.skipped_steps
    is_first = not measured.losses
    start = perf_counter()
    with saved_tensors(session.model) if is_first else nullcontext() as saved:
        if saved is not None:
            trainer.watcher = _MemoryWatcher(session.model, saved, measured)
        losses = _losses_of_step(session, trainer, batch)
        trainer.watcher = None
    _note_losses(losses, measured)  # on CUDA this waits for the whole step
    measured.seconds.append(perf_counter() - start)
    if trainer.skipped_steps > skipped_before:
        measured.skipped_at.append(len(measured.losses) - 1)
        measured.overflowed.append(trainer.overflowed)


def _losses_of_step(
    session: TrainableSession, trainer: MixedPrecision, batch: Any
) -> Mapping[str, torch.Tensor]:
    if is_stepping(session):
        return _own_step(session, trainer, batch)
    with trainer.autocast():
        loss = session.loss(batch)
    trainer.backward(loss)
    trainer.update()
    return {"": loss.detach()}


def _own_step(
    session: SteppingSession, trainer: MixedPrecision, batch: Any
) -> Mapping[str, torch.Tensor]:
    losses = session.step(batch, trainer)
    trainer.end_step()
    return losses


class _MemoryWatcher:
    """Keeps the largest of what each backward of a step finds saved, and leaves as gradients."""

    def __init__(self, model: torch.nn.Module, saved: SavedTensors, measured: Measured) -> None:
        self._model = model
        self._saved = saved
        self._measured = measured

    def before_backward(self) -> None:
        size = self._saved.bytes
        self._measured.saved_tensor_bytes = max(self._measured.saved_tensor_bytes, size)

    def after_backward(self) -> None:
        size = gradient_bytes(self._model)
        self._measured.gradient_bytes = max(self._measured.gradient_bytes, size)
        self._saved.storages.clear()


def _note_losses(losses: Mapping[str, torch.Tensor], measured: Measured) -> None:
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    measured.losses.append(sum(values.values()))
    if list(values) != [""]:
        for name, value in values.items():
            measured.parts.setdefault(name, []).append(value)
