"""What a user hands to a monitor, checked: one name where several are meant is no list of letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from precscope.errors import UsageError


def several(value: str | Iterable[str]) -> tuple[str, ...]:
    """Names or patterns; a string is one of them."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_trained(model: Any, optimizer: Any) -> None:
    """Refuse what is no model, or no optimizer.

    Raises:
        UsageError: it names the argument that is wrong.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a {type(model).__name__}: pass the torch.nn.Module")
    if optimizer is None or isinstance(optimizer, Optimizer):
        return
    found = list(optimizer) if isinstance(optimizer, Iterable) else [optimizer]
    for one in found:
        if not isinstance(one, Optimizer):
            raise UsageError(
                f"optimizer is a {type(one).__name__}: pass the torch.optim.Optimizer, or several"
            )


def check_schedule(schedule: Callable[[int], bool] | None, **steps: Any) -> None:
    """Refuse steps that are no whole numbers, and a schedule that cannot be called.

    Raises:
        UsageError: it names the argument that is wrong.
    """
    if schedule is not None and not callable(schedule):
        raise UsageError("schedule is a function of the step index: use every= for a distance")
    for name, value in steps.items():
        if callable(value):
            raise UsageError(f"{name} is a number of steps: pass a function as schedule=")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UsageError(f"{name}={value!r}: give a whole number of steps")
