"""``precscope doctor``: what this machine offers, what is missing, and what that means."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from precscope_cli.options import debug_option
from precscope_cli.streams import console_for, one_line, put, trimmed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from precscope_cli.checks import Check

EXAMPLES = """\b
Examples:
  precscope doctor
  NO_COLOR=1 precscope doctor > machine.txt
"""

STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


@click.command(epilog=EXAMPLES, short_help="Say what this machine offers and what is missing.")
@debug_option
def doctor() -> None:
    """Say what this machine offers, what is missing, and what that means.

    Changes nothing. Exits with 1 if precscope cannot work here at all.
    """
    from precscope_cli.checks import all_checks

    checks = list(all_checks())
    console = console_for(sys.stdout)
    with console.capture() as captured:
        _print(checks, console)
    put(trimmed(captured.get()))
    if any(check.state == "broken" for check in checks):
        raise click.exceptions.Exit(1)


def _print(checks: Iterable[Check], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for check in checks:
        table.add_row(Text(check.state, style=STYLES[check.state]), Text(check.name), _told(check))
    console.print(table)


def _told(check: Check) -> Text:
    from rich.text import Text

    told = Text(one_line(check.found))
    if check.meaning:
        told.append(f"\n{one_line(check.meaning)}", style="dim")
    return told
