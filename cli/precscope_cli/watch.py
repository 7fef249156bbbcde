"""``precscope watch``: a live view of a training that runs in another process."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from precscope.errors import RecordingError
from precscope_cli.live_reader import LiveReader, Look
from precscope_cli.options import PATH, debug_option, quiet_option
from precscope_cli.paper import printed
from precscope_cli.sides import made_from
from precscope_cli.streams import console_for, look_of, put

if TYPE_CHECKING:
    from rich.console import Group

    from precscope_reports.terminal.live import Frame

_Drawn = TypeVar("_Drawn")

EXAMPLES = """\b
Examples:
  precscope watch run.precscope
  precscope watch precscope-runs/digits_cnn-20260101-120000 --interval 5
  precscope watch run.precscope --once
  precscope watch run.precscope --until-end | tee watch.log

\b
Ctrl-C ends it with exit code 0: the training is another process and goes on. Where stdout is no
terminal one line is printed whenever there is something new.
"""


def _seconds(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which is neither below nor above a range
        raise click.BadParameter("nan is no number of seconds")
    return value


@click.command(short_help="Show a training while it is being recorded.", epilog=EXAMPLES)
@click.argument("run", metavar="RUN", type=PATH)
@click.option("--once", is_flag=True, help="Show what is there now, and end.")
@click.option("--until-end", is_flag=True, help="End when the training closes the Recording.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.05, max=3600),
    callback=_seconds,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@quiet_option
@debug_option
def watch(run: Path, once: bool, until_end: bool, interval_s: float, quiet: bool) -> None:
    """Show a training that is being recorded: loss, loss scale, skips, riskiest sites, drift.

    Reads the Recording RUN and nothing else; RUN need not exist yet. A training records what it
    saw every few seconds. When it ends, is killed, or starts anew into the same file, the view
    says so and goes on. With --quiet nothing is shown: wait for the end with --until-end.
    """
    reader = LiveReader(run)
    if once:
        _once(reader, quiet)
        return
    try:
        if quiet:
            _wait(reader, until_end, interval_s)
        elif console_for(sys.stdout).is_terminal:
            _screen(reader, until_end, interval_s)
        else:
            _lines(reader, until_end, interval_s)
    except KeyboardInterrupt:
        return


def _once(reader: LiveReader, quiet: bool) -> None:
    seen = reader.look()
    if seen.result is None:
        named = str(seen.path) in seen.reason
        raise RecordingError(seen.reason if named else f"cannot read {seen.path}: {seen.reason}")
    if not quiet:
        look = look_of(sys.stdout)
        drawn = made_from(seen.path, lambda: _drawn(seen, look.width, look.encoding))
        put(printed(look, lambda console: console.print(drawn)))


def _wait(reader: LiveReader, until_end: bool, interval_s: float) -> None:
    while not (until_end and reader.look().state == "ended"):
        time.sleep(interval_s)


def _screen(reader: LiveReader, until_end: bool, interval_s: float) -> None:
    from rich.live import Live

    console = console_for(sys.stdout)
    with Live(console=console, auto_refresh=False, screen=False, vertical_overflow="crop") as live:
        while True:
            seen = reader.look()
            drawn = _shown(seen, lambda look: _drawn(look, console.width, console.encoding))
            live.update(drawn, refresh=True)
            if until_end and seen.state == "ended":
                return
            time.sleep(interval_s)


def _lines(reader: LiveReader, until_end: bool, interval_s: float) -> None:
    from precscope_reports.terminal.live import live_line
    from precscope_reports.terminal.page import Page

    page = Page(width=0, ascii_only=not look_of(sys.stdout).encoding.lower().startswith("utf"))
    told = ""
    while True:
        seen = reader.look()
        line = _shown(seen, lambda look: live_line(_frame(look), page).plain)
        if line != told and not put(f"{line}\n"):
            return
        told = line
        if until_end and seen.state == "ended":
            return
        time.sleep(interval_s)


def _shown(seen: Look, draw: Callable[[Look], _Drawn]) -> _Drawn:
    """``draw`` of what is to be seen, or of the reason why it cannot be drawn."""
    try:
        return made_from(seen.path, lambda: draw(seen))
    except RecordingError as error:
        return draw(replace(seen, state="unreadable", reason=str(error), result=None))


def _drawn(seen: Look, width: int, encoding: str) -> Group:
    from rich.console import Group

    from precscope_reports.terminal.live import live_page
    from precscope_reports.terminal.page import Page

    page = Page(width=width, ascii_only=not encoding.lower().startswith("utf"))
    return Group(*live_page(_frame(seen), page))


def _frame(seen: Look) -> Frame:
    from precscope_reports.terminal.live import Frame

    return Frame(
        path=str(seen.path),
        state=seen.state,
        reason=seen.reason,
        written_s=seen.written_s,
        restarts=seen.restarts,
        result=seen.result,
        steps=[record.step for record in seen.steps],
        losses=[record.loss for record in seen.steps],
        log2_scales=[record.log2_scale for record in seen.steps],
        skipped=seen.skipped,
    )
