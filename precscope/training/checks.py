"""What a trainer asks of its model and optimizer before it touches them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.parameter import is_lazy

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


def check_parameters(
    model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], scaler: str
) -> None:
    """Refuse parameters that cannot be trained by the recipe.

    What no optimizer holds may have any precision here.

    Raises:
        UsageError: a parameter has no shape yet; a floating-point one of an optimizer has less than
            32 bits; a complex one is to be trained with ``torch.amp.GradScaler``.
    """
    held = {id(p) for optimizer in optimizers.values() for p in optimizer_parameters(optimizer)}
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise UsageError(f"parameter {name} is not initialised yet: run one forward pass first")
        if id(parameter) not in held:
            continue
        if parameter.is_floating_point() and parameter.dtype.itemsize < torch.float32.itemsize:
            dtype = str(parameter.dtype).removeprefix("torch.")
            raise UsageError(f"parameter {name} is {dtype} already: call model.float() first")
        if parameter.is_complex() and scaler == "torch":
            raise UsageError(
                f"parameter {name} is complex, which torch.amp.GradScaler refuses: take a recipe"
                ' with scaler "precscope", for example paper'
            )


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
