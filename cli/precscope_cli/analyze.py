"""``precscope analyze``: observe, probe, advise, train with the advice, report."""

from __future__ import annotations

from typing import Any

import click

from precscope_cli.application import Invocation
from precscope_cli.options import (
    OBSERVING_OPTIONS,
    RUN_OPTIONS,
    file_argument,
    options,
    recipe_file_option,
    recipe_steps_option,
    recipes_option,
    request_from,
    seeds_option,
)
from precscope_cli.script import SCRIPT_OPTIONS, arguments_argument, script_from

EXAMPLES = """\b
Examples:
  precscope analyze model.py
  precscope analyze model.py --steps 200 --every 10 --recipes fp32,advised
  precscope analyze model.py --recipe tuned.json --seeds 5
  precscope analyze model.py --no-train --output runs/first
  precscope analyze model.py --json - | jq .loss_scale.recommended
  precscope analyze train.py -- --its-own args

\b
The model file defines, at top level:
  def model() -> torch.nn.Module
  def batches() -> Iterable[batch]
  def loss(model, batch) -> torch.Tensor
  def step(model, batch, trainer) -> dict        # for several losses
  def optimizer(model) -> torch.optim.Optimizer  # optional
  def evaluate(model) -> dict[str, float]        # optional
"""


@click.command(
    short_help="Say what half precision will do to a model, and what to set.", epilog=EXAMPLES
)
@file_argument
@arguments_argument
@options(
    *OBSERVING_OPTIONS,
    recipes_option(
        "fp32, advised, fp16, bf16, paper, paper-no-scaling, paper-no-master, "
        "paper-fp16-accumulation"
    ),
    recipe_file_option,
    recipe_steps_option(),
    seeds_option("the advised recipe"),
    click.option("--no-train", is_flag=True, help="Stop after the advice; train no recipe."),
    *SCRIPT_OPTIONS,
    *RUN_OPTIONS,
)
@click.pass_obj
def analyze(invocation: Invocation, /, no_train: bool, **given: Any) -> None:
    """Say what half precision will do to the model in FILE, and what to set.

    Trains the model in FP32 for a while and observes every value, tries loss scales on real
    batches, then trains it anew with each recipe from the same seed on the same batches, fp32 and
    the advised recipe on several seeds. Writes
    run.precscope (the Recording), report.html, result.json and recipe.json (the advice, for
    precscope.Recipe.load).

    A FILE that is no model file is a training script: it is run as it is, with its own ARGS,
    observed for a while, and run again with each recipe (docs/scripts.md).
    """
    from precscope_cli.ranks import rank_here, run_rank
    from precscope_cli.run import run

    own = {key: given.pop(key) for key in ("arguments", "is_module", "keep_going", "keep_compile")}
    request = request_from(given | {"train": False if no_train else None})
    script, rank = script_from(own, request), rank_here()
    if script and rank:
        run_rank(rank, request, invocation.command, script)
    else:
        run(request, "analyze", invocation.command, script)
