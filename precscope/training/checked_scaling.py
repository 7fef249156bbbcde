"""CheckedScaling: a LossScaler at work on the gradients of a trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from precscope.training.gradient_scaling import UNNAMED
from precscope.training.gradients import (
    amax_of_each,
    gradient_values,
    log2_or_none,
    optimizer_parameters,
)
from precscope.training.scaling import LossScaler, ScaleChange


class CheckedScaling:
    """A LossScaler at work: finds the gradient that is not finite, skips that update.

    Args:
        names: qualified name by ``id`` of each parameter of the optimizers, for the log.
        scaler: the rule by which the scale moves.
    """

    def __init__(self, names: Mapping[int, str], scaler: LossScaler) -> None:
        self._names = names
        self._scaler = scaler
        self._is_clean: dict[int, bool] = {}
        self._amax = 0.0
        self.overflowed: str | None = None

    @property
    def log2_scale(self) -> float | None:
        """Scale of the next backward, log2."""
        return float(self._scaler.log2_scale)

    @property
    def changes(self) -> list[ScaleChange]:
        """Every change of the scale."""
        return self._scaler.changes

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss times the scale.

        The scale itself is the first gradient, so a float16 loss takes none above 2^15.
        """
        return loss * 2.0**self._scaler.log2_scale

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the scaled gradients, then divide them by the scale, in place and in float32."""
        if not self._is_clean:
            self._amax, self.overflowed = 0.0, None
        pairs = gradient_values(optimizer_parameters(optimizer))
        values = [value for _, value in pairs]
        amax = amax_of_each(values)
        wrong = [pair[0] for pair, a in zip(pairs, amax, strict=True) if not math.isfinite(a)]
        self._is_clean[id(optimizer)] = not wrong
        if wrong and self.overflowed is None:
            self.overflowed = self._names.get(id(wrong[0]), UNNAMED)
        if not wrong:
            self._amax = max([self._amax, *amax])
        if values:
            torch._foreach_mul_(values, 2.0**-self._scaler.log2_scale)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update the weights if every gradient was finite."""
        clean = self._is_clean[id(optimizer)]
        if clean:
            optimizer.step()
        return clean

    def end_step(self) -> None:
        """Adjust the scale."""
        self._scaler.update(log2_or_none(self._amax), self.overflowed)
        self._is_clean = {}

    def state_dict(self) -> dict[str, Any]:
        """State of the LossScaler."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""
        self._scaler.load_state_dict(state)
