"""A Lightning callback: ``Trainer(callbacks=[PrecscopeCallback("run.precscope")])``."""

from __future__ import annotations

from typing import Any

import torch

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback  # type: ignore[assignment]

from precscope.integrations.training import WatchedTraining


class PrecscopeCallback(WatchedTraining, Callback):
    """Watches each ``Trainer.fit`` of a LightningModule and records it.

    Args:
        path: the Recording to write; a second fit writes ``run-2.precscope`` beside it.
        options: further arguments of ``precscope.watch``.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach; optimizers exist from here on."""
        self._begin(pl_module, trainer.optimizers, _scaler(trainer))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Lightning calls ``training_step``, not the module."""
        if self.watch is not None:
            self.watch.monitor.begin_pass()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Note the loss; Lightning has multiplied it by the loss scale already."""
        scaler = _scaler(trainer)
        if scaler is not None:
            loss = loss.detach() / scaler.scale(torch.ones_like(loss, dtype=torch.float32))
        self._add_loss(loss, trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach."""
        self.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what was seen until then."""
        self.close()


def _scaler(trainer: Any) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)
