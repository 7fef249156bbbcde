"""The state of a trainer as a dict of plain values and tensors, and its check before loading."""

from __future__ import annotations

from typing import Any

import torch

from precscope.errors import UsageError
from precscope.recipe import Recipe

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


def identity(
    recipe: Recipe, optimizer: torch.optim.Optimizer, names: list[str], shapes: list[torch.Size]
) -> dict[str, Any]:
    """What has to be the same in the run that is resumed: recipe, parameters, optimizer."""
    return {
        "schema": STATE_SCHEMA,
        "recipe": recipe.to_dict(),
        "parameters": [[name, list(shape)] for name, shape in zip(names, shapes, strict=True)],
        "optimizer_type": type(optimizer).__name__,
    }


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
    _check_parameters(state["parameters"], mine["parameters"])
    if state["optimizer_type"] != mine["optimizer_type"]:
        raise UsageError(
            f"the state is of {state['optimizer_type']}, this optimizer is "
            f"{mine['optimizer_type']}: make the same one"
        )
    return state


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
