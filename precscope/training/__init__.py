"""Training by a Recipe: the mixed precision engine, its loss scaler and its master weights."""

from __future__ import annotations

from precscope.recipe import RECIPES, LossScaling, Recipe
from precscope.training.mixed_precision import MixedPrecision
from precscope.training.run import train
from precscope.training.training_run import StepTime, TrainingRun

__all__ = [
    "RECIPES",
    "LossScaling",
    "MixedPrecision",
    "Recipe",
    "StepTime",
    "TrainingRun",
    "train",
]
