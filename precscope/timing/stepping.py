"""Training steps of a workload by a recipe, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

import torch
from torch import nn

from precscope.recipe import Recipe
from precscope.training.mixed_precision import MixedPrecision
from precscope.training.sessions import (
    TrainableSession,
    TrainableWorkload,
    is_stepping,
    optimizers_of,
)

BATCHES: Final = 4
"""Made beforehand and used in turn: the loading of data is not timed."""


@dataclass(frozen=True, slots=True)
class Stepper:
    """A fresh training.

    Attributes:
        model: what is trained.
        step: takes one training step.
        forward_backward: without the update; None where the workload takes its steps itself.
    """

    model: nn.Module
    step: Callable[[], None]
    forward_backward: Callable[[], None] | None


@contextmanager
def stepping(
    workload: TrainableWorkload, recipe: Recipe, device: torch.device, seed: int
) -> Iterator[Stepper]:
    """Training steps by a recipe, on a model of its own that is gone afterwards.

    Raises:
        UsageError: the recipe cannot be followed on this device.
        WorkloadError: the model file is at fault.
    """
    session = workload.session(seed, str(device))
    batches = cycle(list(islice(session.batches(), BATCHES)))
    with MixedPrecision(session.model, optimizers_of(session), recipe, seed=seed) as trainer:
        yield _stepper(session, trainer, batches)


def _stepper(session: TrainableSession, trainer: MixedPrecision, batches: Iterator[Any]) -> Stepper:
    if is_stepping(session):
        own = session

        def own_step() -> None:
            own.step(next(batches), trainer)
            trainer.end_step()

        return Stepper(session.model, own_step, None)

    def forward_backward() -> None:
        with trainer.autocast():
            loss = session.loss(next(batches))
        trainer.backward(loss)

    def step() -> None:
        forward_backward()
        trainer.update()

    return Stepper(session.model, step, forward_backward)
