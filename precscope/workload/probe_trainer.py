"""ProbeTrainer: takes the trainer's place where a step is to be looked at and not taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from precscope.workload.joint_loss import OwnedLoss
from precscope.workload.optimizers import chosen


class ProbeTrainer:
    """Notes every loss with the parameters it would move, and updates nothing.

    Has the methods of ``precscope.MixedPrecision`` that a ``step(model, batch, trainer)`` calls.
    Autocast is what it is around the whole call, inside ``autocast()``, and off outside of it.

    Args:
        optimizers: by name.
        device_type: whose autocast, ``"cpu"`` or ``"cuda"``.

    Attributes:
        losses: what was to be stepped with, in order.
        skipped_steps: 0.
        log2_scale: None, as without loss scaling.
    """

    log2_scale: float | None = None
    skipped_steps = 0

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer], device_type: str) -> None:
        self._optimizers = optimizers
        self._device_type = device_type
        self._is_autocast = torch.is_autocast_enabled(device_type)
        self.losses: list[OwnedLoss] = []

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The precision of the probe."""
        dtype = torch.get_autocast_dtype(self._device_type)
        with torch.autocast(self._device_type, dtype=dtype, enabled=self._is_autocast):
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """What is in force where the step did not ask for ``autocast()``."""
        with torch.autocast(self._device_type, enabled=False):
            yield

    def parameters(self, optimizer: str | None = None) -> list[torch.Tensor]:
        """What that optimizer updates, or all of them."""
        groups = [g for one in chosen(self._optimizers, optimizer) for g in one.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def step(self, loss: torch.Tensor, optimizer: str | None = None) -> bool:
        """Note the loss."""
        self.backward(loss, optimizer)
        return True

    def backward(
        self, loss: torch.Tensor, optimizer: str | None = None, retain_graph: bool = False
    ) -> None:
        """Note the loss."""
        self.losses.append(OwnedLoss(loss, tuple(self.parameters(optimizer))))

    def unscale(self, optimizer: str | None = None) -> None:
        """Nothing: there are no gradients."""

    def update(self, optimizer: str | None = None) -> bool:
        """Nothing moves."""
        return True

    def end_step(self) -> None:
        """Nothing: no scale moves."""
