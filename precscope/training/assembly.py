"""What a trainer is made of: a part for each optimizer, and one scale for all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from precscope.arithmetic.storage import convertible_parameters
from precscope.recipe import Recipe
from precscope.training.checked_scaling import CheckedScaling
from precscope.training.checks import device_of
from precscope.training.gradient_scaling import GradientScaling, NoScaling
from precscope.training.gradients import optimizer_parameters
from precscope.training.master_weights import MasterWeights
from precscope.training.optimizer_part import OptimizerPart
from precscope.training.scaling import LossScaler
from precscope.training.torch_scaling import TorchScaling
from precscope.training.weight_updates import weight_updates


def make_parts(
    model: nn.Module,
    optimizers: Mapping[str, torch.optim.Optimizer],
    recipe: Recipe,
    keep: Collection[nn.Module],
    seed: int,
) -> dict[str, OptimizerPart]:
    """One part per optimizer; with float16 weights, the model's are converted here.

    What no optimizer holds is converted with those of the first. Stochastic rounding draws from
    another generator for each, seeded with ``seed``, ``seed + 1``, ...

    Raises:
        UsageError: a parameter of the model is float16 already.
    """
    if recipe.weights_dtype == "float32":
        return {name: OptimizerPart(one, None) for name, one in optimizers.items()}
    shares = _shares(convertible_parameters(model, keep), list(optimizers.values()))
    parts = {}
    frozen: dict[str, nn.Parameter] = {}
    for index, (name, optimizer) in enumerate(optimizers.items()):
        updates = weight_updates(recipe, device_of(model), seed + index)
        masters = MasterWeights(model, optimizer, shares[index], updates)
        parts[name] = OptimizerPart(optimizer, masters)
        frozen.update(masters.frozen)
        masters.frozen = frozen
    return parts


def make_scaling(
    recipe: Recipe, names: Mapping[int, str], run_length: int | None, device_type: str
) -> GradientScaling:
    """The loss scale that the recipe asks for.

    Args:
        recipe: names the scaler.
        names: qualified name by ``id`` of each parameter of the optimizers, for the log.
        run_length: steps of the whole run, None if unknown; only a scale of ours looks at it.
        device_type: ``"cpu"`` or ``"cuda"``.
    """
    if recipe.scaler == "torch":
        return TorchScaling(names, recipe.loss_scaling, device_type)
    if recipe.scaler == "precscope":
        return CheckedScaling(names, LossScaler(recipe.loss_scaling, run_length))
    return NoScaling()


def parameter_names(model: nn.Module, parts: Iterable[OptimizerPart]) -> dict[int, str]:
    """Qualified name by ``id`` of each parameter, and of the master that stands for it."""
    names = {id(p): name for name, p in model.named_parameters()}
    pairs = [pair for part in parts if part.masters for pair in part.masters.pairs]
    return names | {id(pair.master): pair.name for pair in pairs}


def _shares(
    weights: dict[str, nn.Parameter], optimizers: list[torch.optim.Optimizer]
) -> list[dict[str, nn.Parameter]]:
    owners = {id(p): i for i, one in enumerate(optimizers) for p in optimizer_parameters(one)}
    shares: list[dict[str, nn.Parameter]] = [{} for _ in optimizers]
    for name, weight in weights.items():
        shares[owners.get(id(weight), 0)][name] = weight
    return shares
