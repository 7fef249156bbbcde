"""What happens to a loss before backward and to its gradients after it: the interface.

One scale serves all optimizers of a trainer. Each of them skips its own update if a gradient of
its own is not finite; the scale moves once, at the end of the step, by what all of them found.
``NoScaling`` is plain training; ``TorchScaling`` and ``CheckedScaling`` have a scale.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from precscope.training.scaling import ScaleChange

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
