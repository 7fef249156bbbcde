"""Does the script train in mixed precision already? Its autocast and its GradScaler."""

from __future__ import annotations

from typing import Any

import torch

from precscope.script.discovery import Root, alive


class MixedUse:
    """What a script was seen to use by itself.

    Attributes:
        autocast: dtype of the autocast region in which a model was called, None for none.
        scaler: its enabled ``GradScaler``, None for none.
    """

    def __init__(self) -> None:
        self.autocast: str | None = None
        self.scaler: torch.amp.GradScaler | None = None

    def __bool__(self) -> bool:
        return self.autocast is not None or self.scaler is not None

    def look(self, root: Root) -> None:
        """Look for both, while ``root`` is about to be called."""
        kind = root.device.type
        if self.autocast is None and torch.is_autocast_enabled(kind):
            self.autocast = str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
        self.look_for_scaler()

    def look_for_scaler(self) -> None:
        """Look through the live objects for a scaler, until there is one."""
        if self.scaler is None:
            scalers = (s for s in alive(torch.amp.GradScaler) if s.is_enabled())
            self.scaler = next(scalers, None)

    def unscaled(self, loss: torch.Tensor) -> torch.Tensor:
        """A loss as the script scaled it, without the scale; nothing is read from the device."""
        scale = None if self.scaler is None else self.scaler._scale
        return loss if scale is None else loss / scale.to(loss.device)

    def document(self) -> dict[str, Any]:
        """What was seen, as JSON."""
        return {"autocast": self.autocast, "grad_scaler": self.scaler is not None}
