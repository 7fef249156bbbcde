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
    recipe_steps_option,
    recipes_option,
    request_from,
)

EXAMPLES = """\b
Examples:
  precscope analyze model.py
  precscope analyze model.py --steps 200 --every 10 --recipes fp32,advised
  precscope analyze model.py --no-train --output runs/first
  precscope analyze model.py --json - | jq .loss_scale.recommended

\b
The model file defines, at top level:
  def model() -> torch.nn.Module
  def batches() -> Iterable[batch]
  def loss(model, batch) -> torch.Tensor
  def optimizer(model) -> torch.optim.Optimizer    # optional
  def evaluate(model) -> dict[str, float]          # optional
"""


@click.command(epilog=EXAMPLES)
@file_argument
@options(
    *OBSERVING_OPTIONS,
    recipes_option("fp32, advised, fp16, bf16, paper, paper-no-scaling, paper-no-master"),
    recipe_steps_option(),
    click.option("--no-train", is_flag=True, help="Stop after the advice; train no recipe."),
    *RUN_OPTIONS,
)
@click.pass_obj
def analyze(invocation: Invocation, /, no_train: bool, **given: Any) -> None:
    """Say what half precision will do to the model in FILE, and what to set.

    Trains the model in FP32 for a while and observes every value, tries loss scales on real
    batches, then trains it anew with each recipe from the same seed on the same batches. Writes
    run.precscope (the Recording), report.html, result.json and recipe.json (the advice, for
    precscope.Recipe.load).
    """
    from precscope_cli.run import run

    request = request_from(given | {"train": False if no_train else None})
    run(request, "analyze", invocation.command)
