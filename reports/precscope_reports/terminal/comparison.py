"""Two runs side by side in the terminal: what moved, the gravest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from precscope_reports.comparison_words import Comparison, answer, question, summary
from precscope_reports.phrases import counted, moment, urgency
from precscope_reports.terminal.closing import files_written, next_commands
from precscope_reports.terminal.comparison_tables import (
    compared_runs,
    moved_parameters,
    moved_sums,
    sites_that_moved,
)
from precscope_reports.terminal.page import Page, page_of

FINDINGS_SHOWN = 6


def print_comparison(
    comparison: Comparison,
    console: Console,
    top: int,
    files: Mapping[str, Path] | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Print a comparison as ``precscope.comparison.compare`` returns it.

    Names of the user's program are never read as markup; control characters are made visible.

    Args:
        comparison: the dict.
        console: where to print; its width, colours and encoding are respected.
        top: how many sites and parameters are shown.
        files: files written, to be named at the end.
        commands: what to type next.
    """
    page = page_of(console)
    parts = chain(
        _heading(comparison, page),
        _verdicts(comparison, page),
        _findings(comparison, page),
        sites_that_moved(comparison, page, top),
        moved_parameters(comparison, page, top),
        moved_sums(comparison, page, top),
        compared_runs(comparison, page),
        files_written(files or {}, page),
        next_commands(commands, page),
    )
    for part in parts:
        if isinstance(part, Rule):
            console.print()
        uncut = isinstance(part, Text) and bool(part.no_wrap)
        console.print(part, soft_wrap=uncut, markup=False, highlight=False, emoji=False)


def _heading(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    sides = comparison["sides"]
    titles = dict.fromkeys(side["title"] for side in sides.values())
    yield page.text(f"precscope compare: {' and '.join(titles)}", "bold")
    for name, side in sides.items():
        seen = counted(side["observed_steps"], "observed step")
        told = (
            f"{side['label']} ({moment(side['created'])}, {seen}, {counted(side['runs'], 'run')})"
        )
        yield page.lead(page.text(f"{name.upper()}:", "bold"), told, "dim")
    if comparison["note"]:
        yield page.note(comparison["note"], "yellow")
    yield page.text(summary(comparison))


def _verdicts(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    moved = [verdict for verdict in comparison["verdicts"] if verdict["moved"]]
    yield page.heading("Verdicts")
    if not moved:
        yield page.note("None moved.", "green")
        return
    rows = [
        (
            page.text(question(verdict["key"])),
            page.text(answer(verdict["key"], verdict["a"])),
            page.text(answer(verdict["key"], verdict["b"]), "bold"),
        )
        for verdict in moved
    ]
    yield page.table(("", "A", "B"), rows, left=3)


def _findings(comparison: Comparison, page: Page) -> Iterator[RenderableType]:
    found = comparison["findings"]
    listed = [("+", "appeared", "yellow"), ("~", "changed", ""), ("-", "disappeared", "dim")]
    if not any(found[what] for _, what, _ in listed):
        return
    yield page.heading("Findings")
    for mark, what, style in listed:
        ordered = sorted(found[what], key=lambda one: urgency(one["severity"]))
        for finding in ordered[:FINDINGS_SHOWN]:
            place = f" {finding['site']}" if finding["site"] else ""
            label = page.severity(finding["severity"])
            yield page.entry(
                label, page.text(f"{mark} {finding['rule']}{place}: {finding['message']}", style)
            )
        if len(ordered) > FINDINGS_SHOWN:
            yield page.note(f"{counted(len(ordered) - FINDINGS_SHOWN, 'more')[:-1]} {what}.")
