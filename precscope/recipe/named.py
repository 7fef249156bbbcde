"""The recipes that have a name."""

from __future__ import annotations

from precscope.recipe.loss_scaling import LossScaling
from precscope.recipe.recipe import Recipe

_DYNAMIC = LossScaling(kind="dynamic", log2_initial=16)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "float32 throughout, no TF32"),
        Recipe("tf32", "float32 storage, TF32 products on CUDA", tf32=True),
        Recipe("bf16", "bfloat16 autocast, float32 weights", compute_dtype="bfloat16"),
        Recipe(
            "fp16",
            "float16 autocast, float32 weights, torch.amp.GradScaler",
            compute_dtype="float16",
            loss_scaling=_DYNAMIC,
            scaler="torch",
        ),
        Recipe(
            "paper",
            "float16 weights, float32 master weights, dynamic loss scaling, float32 accumulation",
            compute_dtype="float16",
            weights_dtype="float16",
            master_weights=True,
            loss_scaling=_DYNAMIC,
            scaler="precscope",
        ),
        Recipe(
            "paper-no-master",
            "as paper, but each update is rounded into the float16 weight",
            compute_dtype="float16",
            weights_dtype="float16",
            loss_scaling=_DYNAMIC,
            scaler="precscope",
        ),
        Recipe(
            "paper-no-scaling",
            "as paper, but without loss scaling",
            compute_dtype="float16",
            weights_dtype="float16",
            master_weights=True,
        ),
        Recipe(
            "paper-fp16-accumulation",
            "as paper, but products and sums are accumulated in float16, in blocks of 16 terms",
            compute_dtype="float16",
            weights_dtype="float16",
            master_weights=True,
            loss_scaling=_DYNAMIC,
            accumulation="fp16",
            scaler="precscope",
        ),
        Recipe(
            "paper-stochastic-rounding",
            "as paper-no-master, but each update is rounded stochastically",
            compute_dtype="float16",
            weights_dtype="float16",
            loss_scaling=_DYNAMIC,
            scaler="precscope",
            weight_updates="stochastic",
        ),
        Recipe(
            "paper-kahan",
            "as paper-no-master, but what rounding loses is kept in a second float16 (Kahan)",
            compute_dtype="float16",
            weights_dtype="float16",
            loss_scaling=_DYNAMIC,
            scaler="precscope",
            weight_updates="kahan",
        ),
    )
}
"""Every named recipe, by name."""
