"""``precscope compare``: two runs side by side, and what moved between them."""

from __future__ import annotations

import json as json_module
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from precscope_cli.options import PATH, WRITTEN_FILE, debug_option, json_option, quiet_option
from precscope_cli.output import RECORDING, RESULT, check_apart, check_writable_file, write_text
from precscope_cli.sides import made_from, open_side
from precscope_cli.streams import Look, look_of, put, tell

EXAMPLES = """\b
Examples:
  precscope compare before.precscope after.precscope
  precscope compare runs/fp32 runs/fp16 -o difference.html
  precscope compare main/result.json branch/result.json --top 30
  precscope compare A B --json - | jq '.verdicts[] | select(.moved)'

\b
A run is a Recording, the folder that analyze or train wrote, or a result.json.
The keys of --json are documented in docs/compare.md.
"""


@click.command(short_help="Say what moved from one run to another.", epilog=EXAMPLES)
@click.argument("a", metavar="RUN_A", type=PATH)
@click.argument("b", metavar="RUN_B", type=PATH)
@click.option("-o", "--output", type=WRITTEN_FILE, metavar="HTML", help="Also write the page.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    metavar="N",
    help="How many sites, parameters and sums to show.",
)
@json_option
@quiet_option
@debug_option
def compare(a: Path, b: Path, output: Path | None, top: int, json: str | None, quiet: bool) -> None:
    """Say what moved from RUN_A to RUN_B: FP32 and FP16, before and after, two commits.

    Sites match by name and kind. Shows shifts in bits, newly flushed mass, moved verdicts,
    findings that came and went, and final losses; the gravest first.
    """
    json_path = None if json in {None, "-"} else Path(str(json))
    _check_targets(output, json_path, (a, b))
    from precscope.comparison import compare as compared

    sides = open_side(a), open_side(b)
    comparison = made_from(b, lambda: compared(*sides))
    encoded = json_module.dumps(comparison, allow_nan=False, separators=(",", ":")) + "\n"
    if json_path:
        write_text(json_path, encoded)
    if output:
        from precscope_reports.html.comparison import render_comparison

        write_text(output, render_comparison(comparison))
    files = {path.name: path for path in (output, json_path) if path}
    if json == "-":
        put(encoded)
        for path in files.values() if not quiet else ():
            tell(f"wrote {path}")
    elif not quiet:
        following = () if output else (_with_page(a, b),)
        put(_text(comparison, look_of(sys.stdout), top, files, following))


def _text(
    comparison: dict[str, Any],
    look: Look,
    top: int,
    files: dict[str, Path],
    following: tuple[str, ...],
) -> str:
    from precscope_cli.paper import printed
    from precscope_reports.terminal.comparison import print_comparison

    return printed(
        look, lambda console: print_comparison(comparison, console, top, files, following)
    )


def _check_targets(page: Path | None, json: Path | None, runs: tuple[Path, ...]) -> None:
    sources = [file for run in runs for file in (run, run / RECORDING, run / RESULT)]
    for target in filter(None, (page, json)):
        check_apart(target, sources, "one of the runs")
        check_writable_file(target)
    if page and json:
        check_apart(json, (page,), "the page already")


def _with_page(a: Path, b: Path) -> str:
    return shlex.join(["precscope", "compare", str(a), str(b), "-o", "comparison.html"])
