"""``precscope train``: only the training runs, one per recipe."""

from __future__ import annotations

from typing import Any

import click

from precscope_cli.application import Invocation
from precscope_cli.options import (
    RUN_OPTIONS,
    file_argument,
    options,
    recipe_file_option,
    recipe_steps_option,
    recipes_option,
    request_from,
    seeds_option,
)

EXAMPLES = """\b
Examples:
  precscope train model.py --recipes fp32,fp16
  precscope train model.py --recipes fp32,paper,paper-no-master --steps 1000
  precscope train model.py --recipe runs/first/recipe.json --recipes fp32
  precscope train model.py --recipes bf16 --seed 7 --json result.json -q
"""

DEFAULT_RECIPES = (
    "fp32",
    "fp16",
    "bf16",
    "paper",
    "paper-no-scaling",
    "paper-no-master",
    "paper-fp16-accumulation",
)
"""Those of an analysis but for ``advised``, which only an analysis knows."""


@click.command(short_help="Train a model with each recipe and compare.", epilog=EXAMPLES)
@file_argument
@options(
    recipes_option(
        "fp32, fp16, bf16, paper, paper-no-scaling, paper-no-master, paper-fp16-accumulation"
    ),
    recipe_file_option,
    recipe_steps_option("--steps"),
    seeds_option("the first other recipe, or one named advised,"),
    *RUN_OPTIONS,
)
@click.pass_obj
def train(invocation: Invocation, /, **given: Any) -> None:
    """Train the model in FILE with each recipe and compare.

    Every recipe starts from the same weights and sees the same batches; FP32 is the baseline.
    Nothing is observed; to train with the advice of an analysis name its recipe.json with
    --recipe. Writes run.precscope (the Recording), report.html and result.json.
    """
    from precscope_cli.run import run

    request = request_from(given)
    request.settings.setdefault("recipes", DEFAULT_RECIPES)
    run(request, "train_only", invocation.command)
