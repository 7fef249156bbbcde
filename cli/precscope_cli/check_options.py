"""The options of ``precscope check`` and its examples."""

from __future__ import annotations

import click

from precscope_cli.options import PATH, WRITTEN_FILE

EXAMPLES = """\b
Examples:
  precscope check model.py --fail-on "flushed_l1 > 1e-3" --fail-on "loss_scale impossible"
  precscope check runs/first --fail-on "retention < 0.8" --fail-on "severity >= warning"
  precscope check model.py --train --fail-on "promise broken" --fail-on "skipped_share > 1%"
  precscope check run.precscope --fail-on 'flushed[bf16] @ "encoder.*" > 0'
  precscope check result.json --fail-on "overflow > 0" --junit precscope.xml
  precscope check model.py --waive 'flushed_l1 @ "embed*": sparse, checked by hand'
  precscope check train.py --fail-on "headroom_log2 < 2" -- --its-own args

\b
A rule says what must not happen:
  QUANTITY [ "[" WORDS "]" ] [ @ PATTERNS ] [ COMPARISON NUMBER | [is] [not] WORDS ]

\b
Exit codes: 0 nothing hit, 10 a rule was hit, 1 a rule could not be judged, 2 a wrong rule or
option. docs/check.md lists the quantities; rules, waivers and options may stand in
[tool.precscope] of pyproject.toml.
"""

SPELLED = {"is_module": "-m", "recipe_files": "--recipe"}
"""Options that are not called like their parameters."""

FOR_TRAINING = ("recipes", "recipe_files", "recipe_steps", "seeds")
"""Options that say nothing unless recipes are trained."""

CHECK_OPTIONS = (
    click.option(
        "fail_on",
        "--fail-on",
        multiple=True,
        metavar="RULE",
        help="What must not happen. May be repeated; replaces the rules of pyproject.toml.",
    ),
    click.option(
        "waive",
        "--waive",
        multiple=True,
        metavar="WHAT: REASON",
        help="Accept hits of a quantity, [@ PATTERN] for some places only. May be repeated.",
    ),
    click.option(
        "--allow-missing",
        is_flag=True,
        default=None,
        help="Let a rule be about something that the run does not have.",
    ),
    click.option("--junit", type=WRITTEN_FILE, metavar="FILE", help="Also write JUnit XML."),
    click.option(
        "--github/--no-github",
        default=None,
        help="Annotate for GitHub Actions.  [default: in a GitHub workflow]",
    ),
    click.option(
        "--config",
        type=PATH,
        metavar="FILE",
        help="Where [tool.precscope] is.  [default: the nearest pyproject.toml]",
    ),
    click.option(
        "--train/--no-train",
        default=None,
        help="Also train FP32, the advised recipe and those that rules name.  [default: no]",
    ),
)


def spelled(parameter: str) -> str:
    """The option of that parameter, as it is typed."""
    return SPELLED.get(parameter, f"--{parameter.replace('_', '-')}")
