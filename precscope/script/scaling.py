"""ScriptScaling: a loss scale that the script never sees.

Gradients carry the scale only inside ``backward``: what is in ``.grad`` before it, from earlier
micro-batches, is scaled up, and everything is scaled down after it. Powers of two are exact, so
that clipping, logging and accumulation in the script see true gradients, whatever the scale does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch.optim import Optimizer

from precscope.recipe import LossScaling, Recipe
from precscope.training.gradients import (
    amax_of_each,
    gradient_values,
    log2_or_none,
    optimizer_parameters,
)
from precscope.training.scaling import LossScaler


class TorchRule:
    """The rule of ``torch.amp.GradScaler``: halve on overflow, double after clean steps."""

    def __init__(self, scaling: LossScaling) -> None:
        self.log2_scale = scaling.log2_initial
        self._interval = scaling.growth_interval
        self._clean = 0

    def update(self, log2_amax: float | None, overflowed: str | None) -> None:
        """Account for one step."""
        self._clean = 0 if overflowed is not None else self._clean + 1
        if overflowed is not None:
            self.log2_scale -= 1
        elif self._clean == self._interval:
            self.log2_scale += 1
            self._clean = 0


class ScriptScaling:
    """The scale of a run, and which optimizers hold a gradient that overflowed.

    Args:
        recipe: one with loss scaling.
        steps: length of the run.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        scaling = recipe.loss_scaling
        self._rule: LossScaler | TorchRule = (
            TorchRule(scaling) if recipe.scaler == "torch" else LossScaler(scaling, steps)
        )
        self._amax = 0.0
        self._wrong: dict[int, torch.Tensor] = {}

    @property
    def log2_scale(self) -> int:
        """Scale of the next backward, log2."""
        return self._rule.log2_scale

    def backward(
        self,
        loss: torch.Tensor,
        run: Callable[[torch.Tensor], None],
        parameters: Iterable[torch.Tensor],
    ) -> None:
        """Differentiate the scaled loss, leave true gradients, and note any that is not finite."""
        held = list({id(p): p for p in parameters}.values())
        factor = 2.0**self.log2_scale
        _multiply(held, factor)
        try:
            run((loss.float() if loss.dtype is torch.float16 else loss) * factor)
            self._look(held)
        finally:
            _multiply(held, 1.0 / factor)

    def culprit(self, optimizer: Optimizer) -> torch.Tensor | None:
        """A parameter of ``optimizer`` whose gradient overflowed since its last step."""
        held = optimizer_parameters(optimizer)
        return next((p for p in held if id(p) in self._wrong), None)

    def stepped(self, optimizer: Optimizer, overflowed: str | None) -> None:
        """A step of ``optimizer`` is over: forget its overflow, move the scale."""
        for parameter in optimizer_parameters(optimizer):
            self._wrong.pop(id(parameter), None)
        self._rule.update(log2_or_none(self._amax), overflowed)
        self._amax = 0.0

    def _look(self, held: list[torch.Tensor]) -> None:
        pairs = gradient_values(held)
        for (parameter, _), amax in zip(
            pairs, amax_of_each([values for _, values in pairs]), strict=True
        ):
            if math.isfinite(amax):
                self._amax = max(self._amax, amax)
            else:
                self._wrong[id(parameter)] = parameter


def _multiply(parameters: list[torch.Tensor], factor: float) -> None:
    values = [values for _, values in gradient_values(parameters)]
    if values:
        with torch.no_grad():
            torch._foreach_mul_(values, factor)
