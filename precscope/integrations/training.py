"""What the callback of any trainer does: one Recording per training, with the loss of each step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from precscope.watching import Watch, watch


class WatchedTraining:
    """Watches one training after another; the second writes ``run-2.precscope``, and so on.

    A context manager: leaving it closes what an interrupted training has left open.

    Args:
        path: the Recording of the first training.
        options: further arguments of ``precscope.watch``.
    """

    def __init__(self, path: str | os.PathLike[str] = "run.precscope", **options: Any) -> None:
        self._path = Path(path)
        self._options = options
        self._watch: Watch | None = None
        self._trainings = 0
        self._loss: torch.Tensor | None = None
        self._loss_step = -1

    @property
    def watch(self) -> Watch | None:
        """The watch of the training that is running, if one is."""
        return self._watch

    def close(self) -> None:
        """Stop watching and close the Recording. Safe to call twice; the trainer does it."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, model: nn.Module, optimizers: Iterable[Any], scaler: Any) -> None:
        self.close()
        self._trainings += 1
        self._loss, self._loss_step = None, -1
        self._watch = watch(
            model,
            optimizers,
            scaler=scaler,
            path=self._next_path(),
            **self._options,
        )

    def _next_path(self) -> Path:
        if self._trainings == 1:
            return self._path
        return self._path.with_stem(f"{self._path.stem}-{self._trainings}")

    def _add_loss(self, loss: torch.Tensor, step: int) -> None:
        """Note the loss of a micro-batch; trainers divide it, so that those of a step add up."""
        if self._watch is None:
            return
        loss = loss.detach().to(torch.promote_types(loss.dtype, torch.float32))
        if self._loss is not None and step == self._loss_step:
            loss = self._loss + loss
        self._loss, self._loss_step = loss, step
        self._watch.monitor.record_loss(loss)
