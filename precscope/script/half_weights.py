"""HalfWeights: training without an FP32 master copy, in a script that stores its weights in FP32.

As ``paper-no-master`` of a model file: every parameter outside normalisation layers is rounded to
FP16 (to nearest, ties to even) at the start and after every update, so that it holds FP16 values
only and an update below half an ulp is lost; the optimizer's arithmetic and state are FP32 in both.
What differs: the rounded values stay in the script's FP32 tensors. So ``.grad`` is an FP32 tensor,
and an embedding or a parameter that is no operand of a product hands on FP32 values, where a model
file's FP16 weight hands on FP16 ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.optim import Optimizer

from precscope.arithmetic.storage import convertible_parameters
from precscope.recipe import Recipe
from precscope.training.gradients import optimizer_parameters
from precscope.training.weight_updates import stochastically_rounded


class HalfWeights:
    """Keeps the weights of a script's models at FP16 values, by the rule of a recipe.

    Everything goes through ``.data``, which leaves version counters alone: a script may call a
    model again between a forward pass and its backward.

    Args:
        recipe: one with FP16 weights and no master copy; its ``weight_updates`` is the rule.
        seed: of the generator for stochastic rounding, which is its own.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self._rule = recipe.weight_updates
        self._seed = seed
        self._weights: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()
        self._lost: dict[int, torch.Tensor] = {}
        self._generators: dict[torch.device, torch.Generator] = {}

    def add(self, model: nn.Module, keep: Collection[nn.Module] = ()) -> None:
        """Round the weights of a model, but for those of modules that the recipe keeps in FP32.

        Raises:
            UsageError: a parameter is float16 already.
        """
        for weight in convertible_parameters(model, keep).values():
            self._weights[id(weight)] = weight
            self._lost.pop(id(weight), None)
        self.round_again(model)

    def round_again(self, model: nn.Module) -> None:
        """Round what the script has written to the weights itself: a clamp, a checkpoint."""
        for weight in model.parameters():
            if self._is_ours(weight):
                weight.data.copy_(weight.data.half())

    def before_update(self, optimizer: Optimizer) -> None:
        """Give the optimizer what Kahan's rule has kept of earlier updates."""
        for weight in self._of(optimizer):
            lost = self._lost.get(id(weight))
            if lost is not None:
                weight.data.sub_(lost)

    def after_update(self, optimizer: Optimizer) -> None:
        """Round the weights that ``optimizer`` has just updated."""
        for weight in self._of(optimizer):
            updated = weight.data.clone() if self._rule == "kahan" else weight.data
            weight.data.copy_(self._rounded(updated))
            if self._rule == "kahan":
                # An infinite weight has lost nothing that could be given back.
                lost = torch.where(weight.data.isfinite(), weight.data - updated, 0.0)
                self._lost[id(weight)] = lost.half()

    def _of(self, optimizer: Optimizer) -> Iterator[torch.Tensor]:
        return (weight for weight in optimizer_parameters(optimizer) if self._is_ours(weight))

    def _is_ours(self, weight: torch.Tensor) -> bool:
        # A script may change the dtype of its model halfway.
        return self._weights.get(id(weight)) is weight and weight.dtype is torch.float32

    def _rounded(self, values: torch.Tensor) -> torch.Tensor:
        if self._rule != "stochastic":
            return values.half()
        device = values.device
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return stochastically_rounded(values, self._generators[device])
