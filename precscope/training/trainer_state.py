"""The state of a trainer as a dict of plain values and tensors, and its check before loading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.training.gradient_scaling import UNNAMED
from precscope.training.optimizer_part import OptimizerPart
from precscope.workload.optimizers import ONLY

STATE_SCHEMA = 1
"""Version of the state; any other is refused."""

KEYS = (
    "recipe",
    "parameters",
    "optimizer_type",
    "optimizer",
    "scaling",
    "weights",
    "skipped_steps",
)
"""What a state holds besides ``schema``."""

LABELS = ("name", "description")
"""Fields of a recipe that say nothing about how to train."""


def told(by_name: Mapping[str, Any]) -> Any:
    """Values by optimizer, as a state has them: the value itself where there is one, unnamed."""
    return by_name[ONLY] if list(by_name) == [ONLY] else dict(by_name)


def by_optimizer(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """``told`` undone, for the optimizers of these names."""
    return {ONLY: value} if list(names) == [ONLY] else dict(value)


def identity(
    recipe: Recipe, parts: Mapping[str, OptimizerPart], names: Mapping[int, str]
) -> dict[str, Any]:
    """What has to be the same in the run that is resumed: recipe, parameters, optimizers.

    Args:
        recipe: in force.
        parts: by name of the optimizer.
        names: qualified name by ``id`` of each parameter.
    """
    held = {key: part.parameters() for key, part in parts.items()}
    return {
        "schema": STATE_SCHEMA,
        "recipe": recipe.to_dict(),
        "parameters": told({key: _labels(values, names) for key, values in held.items()}),
        "optimizer_type": told({key: type(p.optimizer).__name__ for key, p in parts.items()}),
    }


def _labels(parameters: list[torch.Tensor], names: Mapping[int, str]) -> list[list[Any]]:
    return [[names.get(id(p), UNNAMED), list(p.shape)] for p in parameters]


def check_identity(state: object, mine: dict[str, Any]) -> dict[str, Any]:
    """``state`` if it can be loaded where ``identity`` gave ``mine``.

    Raises:
        UsageError: it is no state of a trainer, or one of another recipe, model or optimizer; the
            message names the first difference.
    """
    if not isinstance(state, dict) or state.get("schema") != STATE_SCHEMA:
        raise UsageError("this is no state of MixedPrecision: pass what trainer.state_dict() gave")
    if missing := [key for key in KEYS if key not in state]:
        raise UsageError(f"the state of the trainer lacks {missing[0]!r}: it is damaged")
    _check_recipe(state["recipe"], mine["recipe"])
    _check_optimizers(state["optimizer_type"], mine["optimizer_type"])
    if isinstance(mine["optimizer_type"], dict):
        for name, parameters in mine["parameters"].items():
            _check_parameters(state["parameters"][name], parameters)
            _check_type(state["optimizer_type"][name], mine["optimizer_type"][name])
    else:
        _check_parameters(state["parameters"], mine["parameters"])
        _check_type(state["optimizer_type"], mine["optimizer_type"])
    return state


def _check_optimizers(saved: object, mine: object) -> None:
    theirs, own = (", ".join(v) if isinstance(v, dict) else "one" for v in (saved, mine))
    if theirs != own:
        raise UsageError(
            f"the state is of other optimizers ({theirs}) than this trainer's ({own}): pass those"
            " of the saved run, under the same names"
        )


def _check_type(saved: str, mine: str) -> None:
    if saved != mine:
        raise UsageError(f"the state is of {saved}, this optimizer is {mine}: make the same one")


def _check_recipe(saved: dict[str, Any], mine: dict[str, Any]) -> None:
    for key in mine:
        if key not in LABELS and saved.get(key) != mine[key]:
            raise UsageError(
                f"the state is of recipe {saved.get('name')!r} with {key} {saved.get(key)!r}, this "
                f"trainer has {mine[key]!r}: pass the recipe of the saved run"
            )


def _check_parameters(saved: list[Any], mine: list[Any]) -> None:
    if len(saved) != len(mine):
        raise UsageError(
            f"the state is of {len(saved)} parameters, this optimizer holds {len(mine)}: "
            "make the model and optimizer of the saved run"
        )
    for theirs, own in zip(saved, mine, strict=True):
        if theirs != own:
            (name, shape), (here, size) = theirs, own
            raise UsageError(
                f"the state has parameter {name} of shape {tuple(shape)} where this optimizer has "
                f"{here} of shape {tuple(size)}: make the model and optimizer of the saved run"
            )
