"""From the rows of a file to Contents; whatever is wrong with them is a ValueError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precscope.facts import Site, StepRecord, UpdateWindow
from precscope.recording import codec, schema, values
from precscope.recording.contents import Contents
from precscope.recording.seal import SEAL_NAME, encoded, seal_of
from precscope.recording.series import UPDATES, WINDOWS
from precscope.recording.values import Row


@dataclass(frozen=True, slots=True)
class Tables:
    """All rows, read in one short transaction and checked after it."""

    meta: Sequence[Row]
    documents: Sequence[Row]
    sites: Sequence[Row]
    windows: Sequence[Row]
    steps: Sequence[Row]
    updates: Sequence[Row]


def decode(tables: Tables, is_own: bool = False) -> Contents:
    """Check every value; of an own file not those of the windows, which are nearly all there is.

    Raises:
        ValueError: a value has the wrong type or is out of bounds, or a series is too long.
    """
    meta = _json_by_name(tables.meta)
    seal = meta.pop(SEAL_NAME, None)
    is_complete = meta.pop(schema.COMPLETE_NAME, False) is True
    sites = _sites(tables.sites)
    contents = Contents(
        meta=meta,
        sites=sites,
        windows=_windows(tables.windows, len(sites), is_own),
        steps=_steps(tables.steps, len(sites)),
        updates=_updates(tables.updates),
        documents=_json_by_name(tables.documents),
        is_complete=is_complete,
    )
    if seal is not None and not is_own:
        _check_seal(tables, seal)
    return contents


def _check_seal(tables: Tables, seal: Any) -> None:
    rows = (
        ("meta", (row for row in tables.meta if row[0] != SEAL_NAME)),
        ("document", tables.documents),
        ("site", tables.sites),
        (WINDOWS.table, tables.windows),
        ("step", tables.steps),
        (UPDATES.table, tables.updates),
    )
    if encoded(seal_of(rows)) != f'"{seal}"':
        raise ValueError("its content does not match its checksum")


def _json_by_name(rows: Sequence[Row]) -> dict[str, Any]:
    return {values.text(name): values.json_value(value) for name, value in rows}


def _sites(rows: Sequence[Row]) -> tuple[Site, ...]:
    if [row[0] for row in rows] != list(range(len(rows))):
        raise ValueError("its sites are not numbered from 0")
    return tuple(codec.site_from_row(row) for row in rows)


def _windows(rows: Sequence[Row], sites: int, is_own: bool) -> Mapping[int, Sequence[Row]]:
    series: dict[int, list[Row]] = {}
    for row in rows:
        if not is_own:
            codec.check_window_row(row)
        series.setdefault(values.integer(row[0], 0, sites - 1), []).append(row)
    _check_lengths(series.values())
    return series


def _updates(rows: Sequence[Row]) -> Mapping[str, Sequence[UpdateWindow]]:
    series: dict[str, list[UpdateWindow]] = {}
    for row in rows:
        update = UPDATES.from_row(row)
        series.setdefault(update.parameter, []).append(update)
    _check_lengths(series.values())
    return series


def _check_lengths(series: Iterable[Sequence[object]]) -> None:
    if any(len(windows) > schema.MAX_WINDOWS for windows in series):
        raise ValueError("a series has too many windows")


def _steps(rows: Sequence[Row], sites: int) -> Sequence[StepRecord]:
    steps = [codec.step_from_row(row) for row in rows]
    for record in steps:
        values.optional_integer(record.gradient_amax_site, sites - 1)
    return steps
