"""How to train, as data: recipes by name, as a file, and as code to paste."""

from __future__ import annotations

from precscope.recipe.recipe import RECIPES, LossScaling, Recipe

__all__ = ["RECIPES", "LossScaling", "Recipe"]
