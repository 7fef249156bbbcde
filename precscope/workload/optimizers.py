"""One optimizer or several, by name; and all of them as one, for who counts steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from precscope.errors import UsageError

ONLY = ""
"""The name of an optimizer that was given without one."""

Optimizers = torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]
"""One optimizer, or several by name."""

Result = TypeVar("Result")


def named_optimizers(optimizer: Optimizers) -> dict[str, torch.optim.Optimizer]:
    """The optimizers by name; a single one is called ``""``."""
    return dict(optimizer) if isinstance(optimizer, Mapping) else {ONLY: optimizer}


def chosen(names: Mapping[str, Result], wanted: str | None) -> list[Result]:
    """What belongs to the optimizer ``wanted``; to all of them for None.

    Raises:
        UsageError: no optimizer has that name.
    """
    if wanted is None:
        return list(names.values())
    if wanted not in names:
        known = ", ".join(name for name in names if name)
        hint = f"choose one of {known}" if known else "there is one, without a name: leave it out"
        raise UsageError(f"no optimizer is named {wanted!r}: {hint}")
    return [names[wanted]]


class StepOptimizer(torch.optim.Optimizer):
    """Several optimizers as one, whose step is a whole training step.

    Hooks for before and after a step can be registered as on any optimizer: they run once per
    training step, however often and in which order the optimizers move in it. The parameter
    groups are those of the optimizers, not copies.

    Args:
        optimizers: by name.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        groups = [group for one in optimizers.values() for group in one.param_groups]
        super().__init__(groups, {})
        self.param_groups = groups

    def step(self, closure: Callable[[], Result]) -> Result:  # type: ignore[override]
        """Call ``closure``, which moves the optimizers, and return what it returns."""
        return closure()
