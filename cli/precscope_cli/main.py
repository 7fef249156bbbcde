"""The ``precscope`` command: the group and its commands, each loaded when it is called."""

from __future__ import annotations

import click

import precscope
from precscope_cli.application import Application

EXAMPLES = """\b
Examples:
  precscope doctor
  precscope analyze examples/digits_cnn.py
  precscope train model.py --recipes fp32,fp16 --steps 500
  precscope report precscope-runs/digits_cnn-20260101-120000 -o page.html
"""


@click.group(
    cls=Application,
    commands_in={
        "analyze": "precscope_cli.analyze:analyze",
        "train": "precscope_cli.train:train",
        "scale-sweep": "precscope_cli.scale_sweep:scale_sweep",
        "report": "precscope_cli.report:report",
        "compare": "precscope_cli.compare:compare",
        "watch": "precscope_cli.watch:watch",
        "export": "precscope_cli.export:export",
        "check": "precscope_cli.check:check",
        "doctor": "precscope_cli.doctor:doctor",
    },
    invoke_without_command=True,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(precscope.__version__, prog_name="precscope")
@click.pass_context
def cli(context: click.Context) -> None:
    """See what half precision does to your PyTorch model, and what to set.

    Measures which values FP16 cannot hold, which loss scale is needed and safe, and whether
    the weights need an FP32 master copy; then trains that way beside FP32 to show that it works.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Entry point of the console script; ends the process with the exit code."""
    cli.main(prog_name="precscope")
