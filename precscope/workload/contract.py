"""What the functions of a model file must return; each breach is one line that says what to do.

Every check takes ``file``, the name of the model file, for the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from precscope.errors import WorkloadError
from precscope.workload.optimizers import ONLY


def checked_model(file: str, model: object) -> torch.nn.Module:
    """The module, if it has trainable parameters, none of them lazy or in half precision."""
    if not isinstance(model, torch.nn.Module):
        raise WorkloadError(f"{file}: model() must return a torch.nn.Module, not {_kind(model)}")
    parameters = dict(model.named_parameters())
    if not parameters:
        raise WorkloadError(f"{file}: the module from model() has no parameters, nothing to train")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise WorkloadError(
            f"{file}: no parameter of model() has requires_grad=True: unfreeze some"
        )
    for name, parameter in parameters.items():
        _check_parameter(file, name, parameter)
    if all(p.dtype in (torch.float64, torch.complex128) for p in parameters.values()):
        raise WorkloadError(
            f"{file}: every parameter of model() is {_dtype(next(iter(parameters.values())))}:"
            " return the model and the batches in float32, which mixed precision starts from"
        )
    return model


def checked_optimizer(
    file: str, optimizer: object, model: torch.nn.Module
) -> torch.optim.Optimizer:
    """The optimizer, if all its parameters are the model's."""
    if isinstance(optimizer, Mapping):
        raise WorkloadError(
            f"{file}: optimizer() returned several: then define step(model, batch, trainer) in"
            " place of loss(model, batch)"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise WorkloadError(
            f"{file}: optimizer() must return a torch.optim.Optimizer, not {_kind(optimizer)}"
        )
    ours = {id(parameter) for parameter in model.parameters()}
    groups = optimizer.param_groups
    strangers = sum(id(p) not in ours for group in groups for p in group["params"])
    if strangers:
        raise WorkloadError(
            f"{file}: optimizer() holds {strangers} parameters that its model does not have:"
            " build it from model.parameters() of the model it is given"
        )
    return optimizer


def checked_optimizers(
    file: str, optimizers: object, model: torch.nn.Module
) -> dict[str, torch.optim.Optimizer]:
    """One optimizer or a dict of them by name, as a dict; no parameter is in two of them."""
    if not isinstance(optimizers, Mapping):
        return {ONLY: checked_optimizer(file, optimizers, model)}
    if not optimizers:
        raise WorkloadError(f"{file}: optimizer() returned an empty dict: name one at least")
    owners: dict[int, str] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for key, value in optimizers.items():
        if not isinstance(key, str) or not key:
            raise WorkloadError(f"{file}: optimizer() must name each with a string, not {key!r}")
        for group in checked_optimizer(file, value, model).param_groups:
            for parameter in group["params"]:
                first = owners.setdefault(id(parameter), key)
                if first != key:
                    raise WorkloadError(
                        f"{file}: optimizers {first!r} and {key!r} both hold"
                        f" {names[id(parameter)]}: give each parameter to one of them"
                    )
    return dict(optimizers)


def checked_losses(file: str, losses: object) -> dict[str, torch.Tensor]:
    """What ``step`` returned, if it is a dict of real scalar tensors; detached."""
    if not isinstance(losses, Mapping) or not losses:
        what = "an empty dict" if isinstance(losses, Mapping) else _kind(losses)
        raise WorkloadError(
            f"{file}: step() must return a dict of name: loss, not {what}:"
            ' return {"generator": loss, ...}'
        )
    for name, value in losses.items():
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            is_tensor = isinstance(value, torch.Tensor)
            told = f"of shape {tuple(value.shape)}" if is_tensor else _kind(value)
            raise WorkloadError(f"{file}: step() must return scalar tensors, {name!r} is {told}")
        if not value.is_floating_point():
            raise WorkloadError(
                f"{file}: step() must return real floating point numbers, {name!r} is"
                f" {_dtype(value)}"
            )
    return {str(name): value.detach().reshape(()) for name, value in losses.items()}


def checked_loss(file: str, loss: object, source: str = "loss()") -> torch.Tensor:
    """The loss, if it is a real scalar tensor; with gradients enabled it must need one.

    Args:
        file: name of the model file.
        loss: what is to be a loss.
        source: the function it comes from.
    """
    verb = "must return" if source == "loss()" else "must give trainer.step"
    if not isinstance(loss, torch.Tensor):
        hint = ": leave out .item()" if isinstance(loss, float | int) else ""
        raise WorkloadError(f"{file}: {source} {verb} a tensor, not {_kind(loss)}{hint}")
    if loss.dim() != 0:
        raise WorkloadError(
            f"{file}: {source} {verb} a scalar, not shape {tuple(loss.shape)}: add .mean()"
        )
    if not loss.is_floating_point():
        raise WorkloadError(
            f"{file}: {source} {verb} real floating point numbers, not {_dtype(loss)}"
        )
    if torch.is_grad_enabled() and not loss.requires_grad:
        raise WorkloadError(
            f"{file}: the loss from {source} needs no gradient: compute it from model(...), without"
            " detach(), no_grad() or a tensor made anew"
        )
    return loss


def checked_batches(file: str, batches: object) -> Iterable[Any]:
    """The iterable; a mapping or a string is one batch, or none, and not an iterable of them."""
    wrong = isinstance(batches, str | bytes | Mapping) or (
        isinstance(batches, torch.Tensor) and batches.dim() == 0
    )
    if wrong or not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise WorkloadError(
            f"{file}: batches() must return an iterable of batches, not {_kind(batches)}:"
            " yield each batch, or return a list or a DataLoader"
        )
    return batches  # type: ignore[return-value]  # __getitem__ alone makes it iterable too


def checked_metrics(file: str, metrics: object) -> dict[str, float]:
    """The metrics as floats."""
    if not isinstance(metrics, Mapping):
        hint = (
            ': return {"accuracy": ...}' if isinstance(metrics, float | int | torch.Tensor) else ""
        )
        raise WorkloadError(
            f"{file}: evaluate() must return a dict of name: number, not {_kind(metrics)}{hint}"
        )
    try:
        return {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise WorkloadError(
            f"{file}: evaluate() must return one number per name: {error}"
        ) from error


def _check_parameter(file: str, name: str, parameter: torch.nn.Parameter) -> None:
    if is_lazy(parameter):
        raise WorkloadError(
            f"{file}: parameter {name} is not initialised yet: run one forward pass in model()"
        )
    if parameter.is_floating_point() and parameter.dtype.itemsize < 4:
        raise WorkloadError(
            f"{file}: parameter {name} is {_dtype(parameter)}: return the model in float32,"
            " the recipes choose the precision"
        )


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
