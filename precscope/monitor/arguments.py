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


def check_model(model: Any) -> None:
    """Refuse what is no model.

    Raises:
        UsageError: it names the argument.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a {type(model).__name__}: pass the torch.nn.Module")


def optimizers_of(given: Any) -> list[Optimizer]:
    """The optimizers whose steps are counted, each once: of None, of one, or of several.

    Raises:
        UsageError: one of them is no optimizer.
    """
    if given is None:
        return []
    # By its methods: Accelerate and others wrap optimizers without deriving from them.
    one = hasattr(given, "param_groups") or not isinstance(given, Iterable)
    return list(dict.fromkeys(_bare(optimizer) for optimizer in ([given] if one else given)))


def _bare(optimizer: Any) -> Optimizer:
    """The optimizer that runs the hooks of a step, inside of wrappers that run none."""
    bare = optimizer
    while not _runs_hooks(bare) and hasattr(bare, "optimizer"):
        bare = bare.optimizer
    if not _runs_hooks(bare):
        raise UsageError(
            f"optimizer is a {type(optimizer).__name__}: pass the torch.optim.Optimizer, or several"
        )
    found: Optimizer = bare
    return found


def _runs_hooks(optimizer: Any) -> bool:
    return hasattr(optimizer, "_optimizer_step_pre_hooks")


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
