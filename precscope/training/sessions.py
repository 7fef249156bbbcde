"""What can be trained: sessions with one loss, and sessions that take their steps themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeGuard

import torch

from precscope.workload.optimizers import Optimizers


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


class SteppingSession(TrainableSession, Protocol):
    """A session of several losses or optimizers, which takes each training step itself."""

    optimizers: dict[str, torch.optim.Optimizer]

    def step(self, batch: Any, trainer: Any) -> Mapping[str, torch.Tensor]:
        """One training step with the trainer; its losses by name."""


class TrainableWorkload(Protocol):
    """What can be trained again and again from the same start."""

    def session(self, seed: int, device: str) -> TrainableSession:
        """Seed everything, then build a new model and optimizer."""


def is_stepping(session: TrainableSession) -> TypeGuard[SteppingSession]:
    """Whether the session takes its steps itself."""
    return hasattr(session, "step")


def optimizers_of(session: TrainableSession) -> Optimizers:
    """What a trainer of the session is given: its optimizer, or all of them by name."""
    return session.optimizers if is_stepping(session) else session.optimizer
