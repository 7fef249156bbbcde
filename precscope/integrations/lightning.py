"""A Lightning callback: ``Trainer(callbacks=[PrecscopeCallback("run.precscope")])``."""

from __future__ import annotations

import os
from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback

from precscope.integrations.unwrapping import bare_optimizer
from precscope.watching import Watch, watch


class PrecscopeCallback(Callback):  # type: ignore[misc]
    """Watches the fit of a LightningModule and records it.

    Args:
        path: the Recording to write.
        options: further arguments of ``precscope.watch``.
    """

    def __init__(self, path: str | os.PathLike[str] = "run.precscope", **options: Any) -> None:
        self._path = path
        self._options = options
        self._watch: Watch | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach; optimizers exist from here on."""
        self._watch = watch(
            pl_module,
            [bare_optimizer(optimizer) for optimizer in trainer.optimizers],
            path=self._path,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            **self._options,
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Lightning calls ``training_step``, not the module."""
        if self._watch is not None:
            self._watch.monitor.begin_pass()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Note the loss."""
        if self._watch is not None:
            self._watch.monitor.record_loss(loss)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what was seen until then."""
        self._close()

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
