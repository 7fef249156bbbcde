"""``precscope report``: render Recordings again, without the model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from precscope.errors import RecordingError
from precscope_cli.options import PATH, WRITTEN_FILE, debug_option, json_option, quiet_option
from precscope_cli.output import check_apart, check_writable_file
from precscope_cli.render import RenderJob, Shown, render
from precscope_cli.sides import files_of
from precscope_cli.streams import look_of, put, tell

EXAMPLES = """\b
Examples:
  precscope report precscope-runs/digits_cnn-20260101-120000
  precscope report run.precscope -o page.html
  precscope report rank0.precscope rank1.precscope -o merged.html
  precscope report run.precscope --json - | jq '.findings[].message'
"""


@click.command(short_help="Show what one or several Recordings hold.", epilog=EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option("-o", "--output", type=WRITTEN_FILE, metavar="HTML", help="Also write the page.")
@json_option
@quiet_option
@debug_option
def report(runs: tuple[Path, ...], output: Path | None, json: str | None, quiet: bool) -> None:
    """Show what the Recordings RUN... hold; several are merged, as the ranks of one training.

    RUN is a Recording, or the folder that analyze or train wrote.
    """
    recordings = tuple(path for run in runs for path in files_of(run))
    json_path = None if json in {None, "-"} else Path(str(json))
    _check_targets(output, json_path, recordings)
    shown: Shown = "json" if json == "-" else "nothing" if quiet else "report"
    files = {path.name: str(path) for path in (output, json_path) if path}
    rendered = render(
        RenderJob(
            recordings=tuple(str(path) for path in recordings),
            html=str(output) if output else None,
            json=(str(json_path),) if json_path else (),
            show=shown,
            look=look_of(sys.stdout),
            files=files,
            next_commands=() if output else (_with_page(runs),),
        )
    )
    if rendered.is_empty:
        raise RecordingError(f"{recordings[0]} holds no observed step and no training run yet")
    put(rendered.text)
    if shown == "json" and not quiet:
        for path in files.values():
            tell(f"wrote {path}")


def _check_targets(page: Path | None, json: Path | None, recordings: tuple[Path, ...]) -> None:
    for target in filter(None, (page, json)):
        check_apart(target, recordings, "the Recording itself")
        check_writable_file(target)
    if page and json:
        check_apart(json, (page,), "the page already")


def _with_page(runs: tuple[Path, ...]) -> str:
    return shlex.join(["precscope", "report", *map(str, runs), "-o", "report.html"])
