"""How to train, as data: recipes by name, as a file, and as code to paste."""

from __future__ import annotations

from precscope.recipe.loss_scaling import LossScaling
from precscope.recipe.named import RECIPES
from precscope.recipe.recipe import Recipe

__all__ = ["RECIPES", "LossScaling", "Recipe"]
