"""Plain FP32 training steps of a session, whichever way it takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from precscope.training import MixedPrecision
from precscope.workload import Session, SteppingSession

OnLoss = Callable[[torch.Tensor], None]
"""Told the loss of a step before the step is over; with several losses their sum."""


def plain_step(session: Session, on_loss: OnLoss | None = None) -> Callable[[Any], torch.Tensor]:
    """A function that takes one step on a batch and returns its loss.

    Where the session takes its steps itself, its optimizers move in one step of
    ``session.optimizer``, so that whoever watches that one sees one step per call.

    Args:
        session: whose model and optimizers move.
        on_loss: told each loss.
    """
    told = on_loss or _ignore
    if isinstance(session, SteppingSession):
        return _own_steps(session, told)

    def step(batch: Any) -> torch.Tensor:
        session.optimizer.zero_grad(set_to_none=True)
        loss = session.loss(batch)
        told(loss)
        loss.backward()
        session.optimizer.step()
        return loss.detach()

    return step


def _own_steps(session: SteppingSession, told: OnLoss) -> Callable[[Any], torch.Tensor]:
    trainer = MixedPrecision(session.model, session.optimizers, "fp32")

    def step(batch: Any) -> torch.Tensor:
        def closure() -> torch.Tensor:
            losses = session.step(batch, trainer)
            trainer.end_step()
            total = torch.stack([loss.float() for loss in losses.values()]).sum()
            told(total)
            return total

        return session.optimizer.step(closure)  # type: ignore[arg-type,return-value]

    return step


def _ignore(_: torch.Tensor) -> None:
    """Nobody wants to know."""
