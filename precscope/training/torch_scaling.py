"""TorchScaling: the loss scale of ``torch.amp.GradScaler``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from precscope.recipe import LossScaling
from precscope.training.gradient_scaling import UNNAMED
from precscope.training.gradients import (
    amax_of_each,
    gradient_values,
    log2_or_none,
    optimizer_parameters,
)
from precscope.training.scaling import ScaleChange


class TorchScaling:
    """``torch.amp.GradScaler``, with its own rules: no limits, no hysteresis.

    Args:
        names: qualified name by ``id`` of each parameter of the optimizers, for the log.
        scaling: initial scale and growth interval.
        device_type: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, names: Mapping[int, str], scaling: LossScaling, device_type: str) -> None:
        self._names = names
        self._step = 0
        self._has_begun = False
        self._checked: set[int] = set()
        self.overflowed: str | None = None
        self.changes: list[ScaleChange] = []
        self._scaler = torch.amp.GradScaler(
            device_type,
            init_scale=2.0**scaling.log2_initial,
            growth_interval=scaling.growth_interval,
        )

    @property
    def log2_scale(self) -> float | None:
        """Scale of the next backward, log2; None once halving has taken it to zero."""
        return log2_or_none(self._scaler.get_scale())

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss times the scale."""
        return self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale, in place."""
        if not self._has_begun:
            self._has_begun, self.overflowed = True, None
        # GradScaler refuses an optimizer without any gradient.
        if any(parameter.grad is not None for parameter in optimizer_parameters(optimizer)):
            self._scaler.unscale_(optimizer)
            self._checked.add(id(optimizer))

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update the weights unless a gradient is not finite."""
        if id(optimizer) not in self._checked:
            optimizer.step()
            return True
        self._scaler.step(optimizer)
        # A scale that was halved to zero unscales 0 by infinity, which is found as well.
        found = self._scaler._found_inf_per_device(optimizer).values()
        updated = not any(float(one) for one in found)
        if not updated and self.overflowed is None:
            self.overflowed = self._culprit(optimizer)
        return updated

    def end_step(self) -> None:
        """Adjust the scale."""
        if self._checked:
            before = self._scaler.get_scale()
            self._scaler.update()
            after = self._scaler.get_scale()
            if after != before and after > 0:
                self._log(before, after)
        self._step += 1
        self._has_begun, self._checked = False, set()

    def state_dict(self) -> dict[str, Any]:
        """State of the GradScaler, and the log."""
        log = {"step": self._step, "changes": [asdict(change) for change in self.changes]}
        return {**log, "grad_scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""
        self._step = state["step"]
        self.changes = [ScaleChange(**change) for change in state["changes"]]
        self._scaler.load_state_dict(state["grad_scaler"])

    def _culprit(self, optimizer: torch.optim.Optimizer) -> str:
        # Unscaling keeps what is not finite.
        wrong = first_not_finite(gradient_values(optimizer_parameters(optimizer)))
        return self._names.get(id(wrong), UNNAMED)

    def _log(self, before: float, after: float) -> None:
        log2s = round(math.log2(before)), round(math.log2(after))
        reason = "interval" if after > before else "overflow"
        self.changes.append(ScaleChange(self._step, *log2s, reason, self.overflowed))


def first_not_finite(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor | None:
    """The first parameter of (parameter, gradient) whose gradient holds NaN or infinity."""
    amax = amax_of_each([gradient for _, gradient in pairs])
    found = (pair[0] for pair, a in zip(pairs, amax, strict=True) if not math.isfinite(a))
    return next(found, None)
