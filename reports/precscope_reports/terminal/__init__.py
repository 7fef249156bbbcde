"""The terminal report: what to do first, then the evidence, in 80 columns and any alphabet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from precscope_reports.terminal.accumulation import accumulation, format_choice
from precscope_reports.terminal.closing import files_written, next_commands
from precscope_reports.terminal.page import page_of
from precscope_reports.terminal.parity import outcome
from precscope_reports.terminal.provenance import cost_and_coverage, definitions, title
from precscope_reports.terminal.runs import training_runs
from precscope_reports.terminal.scales import loss_scale
from precscope_reports.terminal.sites import riskiest_sites
from precscope_reports.terminal.sweep import scale_sweep
from precscope_reports.terminal.verdicts import findings, verdicts
from precscope_reports.terminal.weights import master_weights

SECTIONS = (
    title,
    verdicts,
    findings,
    riskiest_sites,
    loss_scale,
    training_runs,
    master_weights,
    accumulation,
    format_choice,
    cost_and_coverage,
    definitions,
)
WITHOUT_OBSERVATION = (title, outcome, training_runs, scale_sweep)
"""What there is to say where recipes were trained and nothing was observed."""


def print_report(
    result: Mapping[str, Any],
    console: Console,
    files: Mapping[str, Path] | None = None,
    commands: Sequence[str] = (),
) -> None:
    """Print the report of a result of schema 1.

    Text of the user's program is printed as it is, never as markup; control characters are made
    visible. Code, paths and commands are not wrapped, so that they can be pasted.

    Args:
        result: a dict as ``precscope.result.build_result`` returns it.
        console: where to print; its width, colours and encoding are respected.
        files: files written, by what they are, to be named at the end.
        commands: what to type next, to be named at the end.
    """
    page = page_of(console)
    observed = result["sites"] or not (result["runs"] or result.get("scale_sweep"))
    chosen = SECTIONS if observed else WITHOUT_OBSERVATION
    sections = chain.from_iterable(section(result, page) for section in chosen)
    closing = chain(files_written(files or {}, page), next_commands(commands, page))
    for part in chain(sections, closing):
        _print(part, console)


def _print(part: RenderableType, console: Console) -> None:
    if isinstance(part, Rule):
        console.print()
    uncut = isinstance(part, Text) and bool(part.no_wrap)
    console.print(part, soft_wrap=uncut, markup=False, highlight=False, emoji=False)
