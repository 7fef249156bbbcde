"""A Transformers callback: ``Trainer(..., callbacks=[PrecscopeCallback("run.precscope")])``."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainerCallback

from precscope.integrations.unwrapping import bare_model, bare_optimizer
from precscope.watching import Watch, watch


class PrecscopeCallback(TrainerCallback):  # type: ignore[misc]
    """Watches ``Trainer.train`` and records it.

    Args:
        path: the Recording to write.
        options: further arguments of ``precscope.watch``.
    """

    def __init__(self, path: str | os.PathLike[str] = "run.precscope", **options: Any) -> None:
        self._path = path
        self._options = options
        self._watch: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Attach to the model and the optimizer inside their wrappers."""
        optimizer = given["optimizer"]
        self._watch = watch(
            bare_model(given["model"]),
            bare_optimizer(optimizer),
            path=self._path,
            scaler=getattr(optimizer, "scaler", None),
            **self._options,
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Detach."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
