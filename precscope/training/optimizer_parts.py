"""OptimizerParts: what a trainer has for all of its optimizers, taken together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from precscope.errors import UsageError
from precscope.training.optimizer_part import OptimizerPart
from precscope.training.trainer_state import by_optimizer, told
from precscope.workload.optimizers import chosen


class OptimizerParts:
    """The parts by the name of their optimizer, and where they are in a training step.

    A training step is over when every optimizer was updated, or when it is said to be.

    Args:
        parts: by name; a single unnamed one is called ``""``.
    """

    def __init__(self, parts: Mapping[str, OptimizerPart]) -> None:
        self.by_name = dict(parts)

    @property
    def all(self) -> list[OptimizerPart]:
        """Every part, in the order in which the optimizers were given."""
        return list(self.by_name.values())

    @property
    def any_stepped(self) -> bool:
        """Whether an update of the present training step is over."""
        return any(part.has_stepped for part in self.all)

    @property
    def all_stepped(self) -> bool:
        """Whether every update of the present training step is over."""
        return all(part.has_stepped for part in self.all)

    def chosen(self, optimizer: str | None) -> list[OptimizerPart]:
        """The part of that optimizer, all of them for None.

        Raises:
            UsageError: there is no optimizer of that name.
        """
        return chosen(self.by_name, optimizer)

    def inputs(self, optimizer: str | None) -> list[torch.Tensor] | None:
        """What backward is to reach; None for everything, where nothing is left out.

        Raises:
            UsageError: nothing that the optimizer holds needs a gradient.
        """
        parts = self.chosen(optimizer)
        if len(parts) == len(self.by_name):
            return None
        leaves = [leaf for part in parts for leaf in part.leaves()]
        if not leaves:
            raise UsageError(f"no parameter of optimizer {optimizer!r} needs a gradient")
        return leaves

    def end_step(self) -> None:
        """Begin a new training step.

        Raises:
            UsageError: an optimizer has gradients that no update has used yet.
        """
        for name, part in self.by_name.items():
            if part.is_under_way:
                raise UsageError(
                    f"the step ends before the gradients of optimizer {name!r} were used: call"
                    f" update(optimizer={name!r}) first"
                )
        for part in self.all:
            part.has_stepped = False

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizers and of the masters.

        Raises:
            UsageError: in the middle of a training step.
        """
        if any(part.is_under_way for part in self.all):
            raise UsageError("state_dict() between backward() and update(): call it after update()")
        if self.any_stepped:
            raise UsageError("state_dict() in the middle of a step: call end_step() first")
        return {
            "optimizer": told({n: part.optimizer.state_dict() for n, part in self.by_name.items()}),
            "weights": told({n: part.weights_state() for n, part in self.by_name.items()}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as before; every gradient is dropped."""
        optimizers = by_optimizer(state["optimizer"], self.by_name)
        weights = by_optimizer(state["weights"], self.by_name)
        for name, part in self.by_name.items():
            part.optimizer.load_state_dict(optimizers[name])
            if part.masters:
                part.masters.load_state_dict(weights[name])
            part.clear()
