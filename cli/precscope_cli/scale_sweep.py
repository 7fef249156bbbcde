"""``precscope scale-sweep``: one training per static loss scale, and what each scale does."""

from __future__ import annotations

from typing import Any

import click

from precscope_cli.application import Invocation
from precscope_cli.options import RUN_OPTIONS, file_argument, options, request_from

EXAMPLES = """\b
Examples:
  precscope scale-sweep model.py
  precscope scale-sweep model.py --from -4 --to 16 --step 4 --steps 500
  precscope scale-sweep model.py --json - -q | jq '.scale_sweep.doses[]'
"""


def _exponent(flag: str, name: str, what: str, default: int) -> Any:
    return click.option(
        name,
        flag,
        type=click.IntRange(-40, 40),
        metavar="K",
        help=f"{what}, as exponent of two.  [default: {default}]",
    )


@click.command(
    "scale-sweep",
    short_help="Train once per static loss scale: the dose and the response.",
    epilog=EXAMPLES,
)
@file_argument
@options(
    _exponent("--from", "log2_from", "Smallest loss scale", -12),
    _exponent("--to", "log2_to", "Largest loss scale", 20),
    click.option(
        "log2_step",
        "--step",
        type=click.IntRange(min=1),
        metavar="N",
        help="Powers of two between scales.  [default: 2]",
    ),
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        metavar="N",
        help="Training steps at each scale.  [default: 100]",
    ),
    *RUN_OPTIONS,
)
@click.pass_obj
def scale_sweep(invocation: Invocation, /, **given: Any) -> None:
    """Train the model in FILE once per static loss scale: the dose and the response.

    Trains in FP32 and tries every scale on real batches on the way, then trains with FP16 weights
    and each scale held fixed, from the same seed on the same batches. Shows gradient error and
    final loss against the scale. Ctrl-C keeps the scales that are done. Writes run.precscope (the
    Recording), report.html and result.json.
    """
    from precscope_cli.run import run

    request = request_from(given)
    if (low := request.settings.get("log2_from", -12)) > request.settings.get("log2_to", 20):
        raise click.BadParameter(f"{low} is above --to", param_hint="--from")
    run(request, "scale_sweep", invocation.command)
