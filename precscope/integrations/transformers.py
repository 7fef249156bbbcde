"""A Transformers callback: ``Trainer(..., callbacks=[PrecscopeCallback("run.precscope")])``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from precscope.integrations.training import WatchedTraining


class PrecscopeCallback(WatchedTraining, TrainerCallback):
    """Watches each ``Trainer.train`` and records it.

    Args:
        path: the Recording to write; a second training writes ``run-2.precscope`` beside it.
        options: further arguments of ``precscope.watch``.
    """

    def __init__(self, path: str | os.PathLike[str] = "run.precscope", **options: Any) -> None:
        super().__init__(path, **options)
        self._trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Attach to the model and the optimizer inside their wrappers."""
        optimizer = given["optimizer"]
        self._begin(given["model"], [optimizer], getattr(optimizer, "scaler", None))
        self._follow(_running_trainer())

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Detach."""
        self.close()

    def close(self) -> None:
        """Stop watching and close the Recording. Safe to call twice; the trainer does it."""
        if self._trainer is not None:
            vars(self._trainer).pop("training_step", None)
            self._trainer = None
        super().close()

    def _follow(self, trainer: Any) -> None:
        # No event of Transformers tells a callback of a step's loss, or that training has raised.
        if trainer is not None and "training_step" not in vars(trainer):
            trainer.training_step = self._followed(trainer.training_step, trainer)
            self._trainer = trainer

    def _followed(
        self, training_step: Callable[..., torch.Tensor], trainer: Any
    ) -> Callable[..., torch.Tensor]:
        def followed(*given: Any, **named: Any) -> torch.Tensor:
            try:
                loss = training_step(*given, **named)
            except BaseException:
                self.close()
                raise
            self._add_loss(loss, trainer.state.global_step)
            return loss

        return followed


def _running_trainer() -> Any:
    """The Trainer that is training; it does not hand itself to its callbacks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer):
            return owner
        frame = frame.f_back
    return None
