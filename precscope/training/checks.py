"""What a trainer asks of its model and optimizer before it touches them."""

from __future__ import annotations

import torch
from torch import nn

from precscope.errors import UsageError


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's parameters.

    Raises:
        UsageError: there are none.
    """
    first = next(model.parameters(), None)
    if first is None:
        raise UsageError("the model has no parameters: there is nothing to train")
    return first.device


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that ``step`` cannot drive.

    Raises:
        UsageError: L-BFGS.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UsageError(
            "L-BFGS evaluates the loss itself, several times a step: use SGD, Adam or the like"
        )


def is_distributed() -> bool:
    """Whether this process is one of a group that exchanges gradients."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
