"""ScriptScaling: a loss scale that the script never sees.

Gradients carry the scale only inside ``backward``: what is in ``.grad`` before it, from earlier
micro-batches, is scaled up, and everything is scaled down after it. Powers of two are exact, so
that clipping, logging and accumulation in the script see true gradients, whatever the scale does.
The same holds for the gradients that ``torch.autograd.grad`` hands back, and for those that are
differentiated again: the division by the scale is then a part of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.optim import Optimizer

from precscope.recipe import LossScaling, Recipe
from precscope.script.differentiation import Differentiation, Tensors, leaves
from precscope.training.gradients import (
    amax_of_each,
    gradient_values,
    log2_or_none,
    optimizer_parameters,
)
from precscope.training.scaling import LossScaler, ScaleChange


class TorchRule:
    """The rule of ``torch.amp.GradScaler``: halve on overflow, double after clean steps."""

    def __init__(self, scaling: LossScaling) -> None:
        self.log2_scale = scaling.log2_initial
        self.changes: list[ScaleChange] = []
        self._interval = scaling.growth_interval
        self._clean = 0
        self._step = 0

    def update(self, log2_amax: float | None, overflowed: str | None) -> None:
        """Account for one step."""
        self._clean = 0 if overflowed is not None else self._clean + 1
        if overflowed is not None:
            self._change(-1, "overflow", overflowed)
        elif self._clean == self._interval:
            self._change(1, "interval", None)
            self._clean = 0
        self._step += 1

    def _change(self, bits: int, reason: str, parameter: str | None) -> None:
        old, self.log2_scale = self.log2_scale, self.log2_scale + bits
        self.changes.append(ScaleChange(self._step, old, self.log2_scale, reason, parameter))


class ScriptScaling:
    """The scale of a run, and which optimizers hold a gradient that overflowed.

    Args:
        recipe: one with loss scaling.
        steps: length of the run.

    Attributes:
        is_running: whether a scaled backward is under way: gradients carry the scale.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        scaling = recipe.loss_scaling
        self._rule: LossScaler | TorchRule = (
            TorchRule(scaling) if recipe.scaler == "torch" else LossScaler(scaling, steps)
        )
        self._amax = 0.0
        # Weak: an image that a script differentiates for is gone after its step.
        self._wrong: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()
        self.is_running = False

    @property
    def log2_scale(self) -> int:
        """Scale of the next backward, log2."""
        return self._rule.log2_scale

    @property
    def changes(self) -> list[ScaleChange]:
        """Every change of the scale; ``step`` counts the updates of all optimizers."""
        return self._rule.changes

    def differentiate(self, asked: Differentiation, parameters: Iterable[torch.Tensor]) -> Any:
        """Differentiate the scaled outputs, leave true gradients, note what is not finite.

        Args:
            asked: what the script wants.
            parameters: of the models, for gradients that come without a path in the graph.
        """
        factor = 2.0**self.log2_scale
        if asked.inputs is not None:
            return self._handed_back(asked, asked.inputs, factor)
        # A script may want gradients of what no model has: its input, a temperature.
        held = list({id(p): p for p in (*parameters, *leaves(asked.outputs))}.values())
        if asked.creates_graph:
            return self._with_graph(asked, held, factor)
        _multiply(held, factor)
        try:
            result = self._run(asked, factor)
            self._look(gradient_values(held))
            return result
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

    def _run(self, asked: Differentiation, factor: float) -> Any:
        self.is_running = True
        try:
            return asked.run(_scaled(asked.outputs, factor))
        finally:
            self.is_running = False

    def _handed_back(self, asked: Differentiation, inputs: Tensors, factor: float) -> Any:
        given = self._run(asked, factor)
        pairs = [(i, g) for i, g in zip(inputs, given, strict=True) if g is not None]
        self._look([(i, _values(g)) for i, g in pairs if i.is_leaf and g.numel()])
        return tuple(None if g is None else g * (1.0 / factor) for g in given)

    def _with_graph(self, asked: Differentiation, held: list[torch.Tensor], factor: float) -> Any:
        before = [leaf.grad for leaf in held]
        for leaf in held:
            leaf.grad = None
        try:
            result = self._run(asked, factor)
            self._look(gradient_values(held))
            return result
        finally:
            for leaf, old in zip(held, before, strict=True):
                new = None if leaf.grad is None else leaf.grad * (1.0 / factor)
                leaf.grad = old if new is None else new if old is None else old + new

    def _look(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        values = [values.detach() for _, values in pairs]
        for (parameter, _), amax in zip(pairs, amax_of_each(values), strict=True):
            if math.isfinite(amax):
                self._amax = max(self._amax, amax)
            else:
                self._wrong[id(parameter)] = parameter


def _scaled(outputs: Tensors, factor: float) -> Tensors:
    # The scale itself is the first gradient: float16 takes none above 2^15.
    return tuple((o.float() if o.dtype is torch.float16 else o) * factor for o in outputs)


def _values(gradient: torch.Tensor) -> torch.Tensor:
    return gradient._values() if gradient.is_sparse else gradient


def _multiply(parameters: list[torch.Tensor], factor: float) -> None:
    values = [values for _, values in gradient_values(parameters)]
    if values:
        with torch.no_grad():
            torch._foreach_mul_(values, factor)
