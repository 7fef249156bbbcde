"""Which recipes a script is run again with, and what each of them is for an unedited script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from precscope.advice import Advice
from precscope.advice.parity import ADVISED, BASELINE
from precscope.recipe import Recipe

SCRIPT_RECIPES = ("fp32", "advised", "fp16", "bf16")
"""What a script is run again with in any case."""

NO_SCALING, NO_MASTER = "paper-no-scaling", "paper-no-master"

PAPER, AUTOCAST = "paper", "fp16"

PAPER_IS_AUTOCAST = {
    "recipes": [PAPER],
    "reason": "for an unedited script it is fp16. Autocast casts the script's FP32 weights, the "
    "master copy, to FP16 for each product, and norms, softmax and losses run in FP32 in both. "
    "In paper an embedding, or a parameter that is no operand of a product, also hands on FP16 "
    "values, and the loss scale has a rule of its own: a model file can be trained with it",
}

NOT_CALLED_FOR = "what it leaves out is not needed by the advice; --recipes runs it all the same"

RANKS = {
    "recipes": list(SCRIPT_RECIPES),
    "reason": "torchrun started the ranks once: the script is not run again. Run it without "
    "torchrun, in one process, to train it with the advice",
}

_ROUNDED = (
    "float16 autocast, dynamic loss scaling; weights stored in float32 and rounded to float16 "
    "{how} at the start and after each update, whose arithmetic is float32, as in a model file"
)

DESCRIPTIONS = {
    NO_SCALING: "float16 autocast, float32 weights, loss scale fixed at 1 (no scaling)",
    NO_MASTER: _ROUNDED.format(how="(to nearest even)"),
    "paper-stochastic-rounding": _ROUNDED.format(how="(stochastically)"),
    "paper-kahan": _ROUNDED.format(how="(to nearest, what is lost kept in a second float16)"),
    "paper-fp16-accumulation": "float16 autocast, float32 weights, dynamic loss scaling; products "
    "and sums are accumulated in float16, in blocks of 16 terms",
}


def for_script(recipe: Recipe) -> Recipe:
    """The recipe as autocast around a script, whose FP32 weights are the master weights.

    A named recipe with neither master copy keeps its FP16 weights: see ``HalfWeights``. The
    advised one is run with the script's FP32 weights in any case, as autocast would be.
    """
    if recipe.weights_dtype == "float32":
        return recipe
    kept = f"{recipe.description}; here as autocast, with the script's FP32 weights"
    recipe = replace(recipe, description=DESCRIPTIONS.get(recipe.name, kept))
    if recipe.name != ADVISED and not recipe.master_weights:
        return recipe
    return replace(recipe, weights_dtype="float32", master_weights=False, weight_updates="nearest")


def recipes_to_run(asked: Sequence[str] | None, advice: Advice) -> list[Recipe]:
    """FP32 first, then those asked for, each once; None: the usual ones and what proves the advice.

    Where the advice wants a loss scale or a master copy, the proof is to leave it out.
    """
    chosen = (*SCRIPT_RECIPES, *_ablations(advice)) if asked is None else asked
    names = [AUTOCAST if name == PAPER else name for name in (BASELINE, *map(str.lower, chosen))]
    return [
        for_script(advice.recipe if name == ADVISED else Recipe.named(name))
        for name in dict.fromkeys(names)
    ]


def recipes_not_run(asked: Sequence[str] | None, advice: Advice) -> list[dict[str, Any]]:
    """Recipes of a model file that the script is not run with, each with the reason."""
    left_out = [PAPER_IS_AUTOCAST] if asked is None or PAPER in map(str.lower, asked) else []
    if asked is None:
        called_for = _ablations(advice)
        left_out += [
            {"recipes": [name], "reason": NOT_CALLED_FOR}
            for name in (NO_SCALING, NO_MASTER)
            if name not in called_for
        ]
    return left_out


def _ablations(advice: Advice) -> list[str]:
    scaled = advice.loss_scale.verdict in ("static", "dynamic")
    mastered = advice.master_weights in ("required", "advised")
    return [NO_SCALING] * scaled + [NO_MASTER] * mastered
