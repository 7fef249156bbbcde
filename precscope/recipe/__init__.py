"""How to train, as data: recipes by name, as a file, and as code to paste."""

from __future__ import annotations

from precscope.recipe.named import RECIPES
from precscope.recipe.recipe import LossScaling, Recipe

__all__ = ["RECIPES", "LossScaling", "Recipe"]
