"""What happens to a loss before backward and to its gradients after it: three ways.

One scale serves all optimizers of a trainer. Each of them skips its own update if a gradient of
its own is not finite; the scale moves once, at the end of the step, by what all of them found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import torch

from precscope.recipe import LossScaling
from precscope.training.gradients import (
    amax_of_each,
    gradient_values,
    log2_or_none,
    optimizer_parameters,
)
from precscope.training.scaling import LossScaler, ScaleChange

UNNAMED = "(unnamed)"
"""In the log, a parameter that the model does not have."""


class GradientScaling(Protocol):
    """Scale a loss, unscale the gradients of an optimizer's parameters, step it or skip."""

    @property
    def log2_scale(self) -> float | None:
        """Scale of the next backward, log2; None if there is none."""

    @property
    def changes(self) -> list[ScaleChange]:
        """Every change of the scale."""

    @property
    def overflowed(self) -> str | None:
        """First parameter in the present or last step whose gradient was not finite, or None."""

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss to differentiate."""

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients that the optimizer reads to their true scale."""

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update its weights; False if that was skipped."""

    def end_step(self) -> None:
        """Adjust the scale, after the updates of one training step."""

    def state_dict(self) -> dict[str, Any]:
        """State of the scale, as plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as before."""


class NoScaling:
    """Plain training: gradients are applied whatever they are."""

    log2_scale: float | None = None
    overflowed: str | None = None

    def __init__(self) -> None:
        self.changes: list[ScaleChange] = []

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss itself."""
        return loss

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Nothing to do."""

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update the weights."""
        optimizer.step()
        return True

    def end_step(self) -> None:
        """Nothing to do."""

    def state_dict(self) -> dict[str, Any]:
        """There is none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


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
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Update the weights unless a gradient is not finite."""
        self._scaler.step(optimizer)
        # A scale that was halved to zero unscales 0 by infinity, which is found as well.
        found = self._scaler._found_inf_per_device(optimizer).values()
        updated = not any(float(one) for one in found)
        if not updated and self.overflowed is None:
            self.overflowed = self._culprit(optimizer)
        return updated

    def end_step(self) -> None:
        """Adjust the scale."""
        before = self._scaler.get_scale()
        self._scaler.update()
        after = self._scaler.get_scale()
        if after != before and after > 0:
            self._log(before, after)
        self._step += 1
        self._has_begun = False

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


def first_not_finite(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor | None:
    """The first parameter of (parameter, gradient) whose gradient holds NaN or infinity."""
    amax = amax_of_each([gradient for _, gradient in pairs])
    found = (pair[0] for pair, a in zip(pairs, amax, strict=True) if not math.isfinite(a))
    return next(found, None)
