"""The loss scale in force, from the user's GradScaler, without a host synchronisation."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from types import CodeType
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

Scale = torch.Tensor | float

_CALLERS: frozenset[CodeType] = frozenset(
    getattr(GradScaler, name).__code__
    for name in ("step", "_maybe_opt_step")
    if hasattr(GradScaler, name)
)
_DEPTH = 10


def calling_scaler() -> Any:
    """The GradScaler whose ``step`` called the optimizer that is calling us; None if there is none.

    Looked up on the call stack, because a scaler leaves no trace on an ordinary optimizer.
    """
    frame = sys._getframe(1)
    for _ in range(_DEPTH):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code in _CALLERS:
            return frame.f_locals.get("self")
    return None


class LossScale:
    """Follows one GradScaler, or a scale that is told by hand.

    Args:
        scaler: the GradScaler, None if there is none, or none is known yet.
    """

    def __init__(self, scaler: Any = None) -> None:
        self.scaler = scaler
        self.told_log2: float | None = None
        self._at_forward: Scale | None = None
        self._states: object = self._optimizer_states()

    @property
    def in_use(self) -> bool:
        """Whether gradients carry a scale that has to be taken off."""
        return self.told_log2 is not None or self.scaler is not None

    def now(self) -> Scale | None:
        """The scale of the present step: before ``scaler.update()`` the scaler's own."""
        if self.told_log2 is not None:
            return math.pow(2.0, self.told_log2)
        if self.scaler is None or not self.scaler.is_enabled():
            return None
        scale: torch.Tensor | None = getattr(self.scaler, "_scale", None)
        if scale is not None:
            return torch.clone(scale)  # the scaler changes it in place
        return float(self.scaler.get_scale())

    def before_update(self) -> Scale | None:
        """The scale as it was at the last forward pass: after ``update()`` that of the step."""
        return self._at_forward if self._at_forward is not None else self.now()

    def finished_step_of(self, optimizers: Iterable[object]) -> bool:
        """Whether the scaler stepped one of these, and was updated, since the last ``look``.

        A scaler may serve several models: an update after another one's step ends nothing here.
        """
        known = self._states
        if self.scaler is None or self._optimizer_states() is known:
            return False
        return isinstance(known, dict) and any(id(o) in known for o in optimizers)

    def look(self, keep: bool) -> None:
        """Remember the state of the scaler, and its scale if the step is observed."""
        if self.scaler is not None:
            self._states = self._optimizer_states()
            self._at_forward = self.now() if keep else None

    def _optimizer_states(self) -> object:
        # update() puts a new dictionary in place: its identity tells, without reading a tensor.
        return getattr(self.scaler, "_per_optimizer_states", None)
