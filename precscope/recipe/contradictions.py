"""What cannot be true of a recipe at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precscope.recipe.recipe import Recipe


ACCUMULATION_BLOCKS = (1, 4, 8, 16)
"""A scalar accumulator, and the blocks of tensor cores."""


def contradiction(recipe: Recipe) -> str | None:
    """What cannot be true at once, None if nothing is wrong."""
    half_weights = recipe.weights_dtype == "float16"
    kind = recipe.loss_scaling.kind
    if half_weights and recipe.compute_dtype != "float16":
        return "weights_dtype float16 needs compute_dtype float16"
    if recipe.master_weights and not half_weights:
        return "master_weights needs weights_dtype float16: float32 weights are their own master"
    if half_weights and recipe.scaler == "torch":
        return 'scaler "torch" refuses float16 gradients: set scaler to "precscope"'
    if recipe.scaler == "torch" and kind != "dynamic":
        return 'scaler "torch" is always dynamic: set loss_scaling.kind to "dynamic"'
    if (kind == "none") != (recipe.scaler == "none"):
        return f'loss_scaling.kind "{kind}" does not go with scaler "{recipe.scaler}"'
    if recipe.tf32 and recipe.compute_dtype != "float32":
        return "tf32 needs compute_dtype float32"
    if recipe.accumulation == "fp16" and recipe.compute_dtype != "float16":
        return 'accumulation "fp16" needs compute_dtype float16'
    if recipe.accumulation_block not in ACCUMULATION_BLOCKS:
        return f"accumulation_block {recipe.accumulation_block} is not one of 1, 4, 8, 16"
    if recipe.weight_updates != "nearest" and (recipe.master_weights or not half_weights):
        return f'weight_updates "{recipe.weight_updates}" is for float16 weights without a master'
    return None
