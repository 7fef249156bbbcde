"""The tables of an export, in order; ``docs/export.md`` is printed from here."""

from __future__ import annotations

from typing import Final

from precscope.export.advice_columns import ACCUMULATION, FINDINGS, LOSS_SCALE, PARAMETERS
from precscope.export.column import Table
from precscope.export.observed_columns import HISTOGRAMS, SITES, STEPS, WINDOWS
from precscope.export.trained_columns import LOSSES, METRICS, RUNS

TABLES: Final = (
    SITES,
    HISTOGRAMS,
    WINDOWS,
    STEPS,
    RUNS,
    LOSSES,
    METRICS,
    PARAMETERS,
    ACCUMULATION,
    FINDINGS,
    LOSS_SCALE,
)


def reference() -> str:
    """The tables and columns as Markdown, one section per table."""
    return "\n".join(_section(table) for table in TABLES)


def _section(table: Table) -> str:
    rows = [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in table.columns]
    head = ("| column | type | unit | meaning |", "|---|---|---|---|")
    return "\n".join((f"### `{table.name}`", "", f"One row is {table.row}.", "", *head, *rows, ""))
