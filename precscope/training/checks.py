"""What a trainer asks of its model and optimizer before it touches them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from precscope.errors import UsageError
from precscope.training.gradients import optimizer_parameters


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


def check_optimizers(optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
    """Refuse optimizers that cannot share a trainer.

    Raises:
        UsageError: none at all, L-BFGS, or a parameter in two of them.
    """
    if not optimizers:
        raise UsageError("no optimizer: pass one, or a dict of them by name")
    owners: dict[int, str] = {}
    for name, optimizer in optimizers.items():
        check_optimizer(optimizer)
        for parameter in optimizer_parameters(optimizer):
            first = owners.setdefault(id(parameter), name)
            if first != name:
                raise UsageError(
                    f"optimizers {first!r} and {name!r} hold the same parameter: "
                    "give each parameter to one of them"
                )


def check_scalar(loss: torch.Tensor) -> None:
    """Refuse a loss that is not a scalar.

    Raises:
        UsageError: it has more than one element.
    """
    if loss.numel() != 1:
        shape = tuple(loss.shape)
        raise UsageError(f"the loss must be a scalar, not of shape {shape}: reduce it first")


def is_distributed() -> bool:
    """Whether this process is one of a group that exchanges gradients."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
