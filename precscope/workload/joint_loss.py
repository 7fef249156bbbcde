"""Several losses as one scalar, whose backward gives each parameter the gradient of its own loss.

In a training step with several losses, a loss moves the parameters of its own optimizer and no
others: what the generator's loss does to the discriminator is thrown away. A plain sum of the
losses would mix the two. The scalar here has the value of that sum; its backward runs one backward
per loss, at whatever scale it is itself given, into the parameters of that loss alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class OwnedLoss:
    """A loss, and the parameters that it moves."""

    loss: torch.Tensor
    parameters: tuple[torch.Tensor, ...]


def joint_loss(losses: Sequence[OwnedLoss]) -> torch.Tensor:
    """The sum of the losses in float32; backward as described above, as often as wanted.

    Args:
        losses: at least one, scalars on one device.
    """
    if not torch.is_grad_enabled():
        return _sum(losses)
    anchor = torch.zeros((), device=losses[0].loss.device, requires_grad=True)
    joint: torch.Tensor = _Joint.apply(anchor, losses)  # type: ignore[no-untyped-call]
    return joint


def _sum(losses: Sequence[OwnedLoss]) -> torch.Tensor:
    return torch.stack([owned.loss.detach().float() for owned in losses]).sum()


class _Joint(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, losses: Sequence[OwnedLoss]) -> torch.Tensor:
        ctx.losses = losses
        return _sum(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None]:
        for owned in ctx.losses:
            inputs = [p for p in owned.parameters if p.requires_grad]
            if inputs:
                seed = gradient.to(owned.loss.dtype).reshape(owned.loss.shape)
                torch.autograd.backward(owned.loss, seed, retain_graph=True, inputs=inputs)
        return None, None
