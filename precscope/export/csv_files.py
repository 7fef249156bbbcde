"""Tables as CSV after RFC 4180, exactly as measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from precscope.export.cells import Cell
from precscope.export.column import Table

SUFFIX = ".csv"


def write_csv(table: Table, rows: Iterable[tuple[Cell, ...]], path: Path) -> int:
    """Write one table and return its number of rows.

    UTF-8, comma, LF, a header line. A missing value is an empty field and an empty text is a quoted
    one, ``""``; reals are written with as many digits as it takes to read the same float64 again,
    those that are not finite as NaN, inf and -inf; truth is true or false. Texts are always quoted
    and never changed: a name that begins with ``=`` stays what it is.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(",".join(column.name for column in table.columns) + "\n")
        return sum(file.write(_line(row)) > 0 for row in rows)


def _line(row: tuple[Cell, ...]) -> str:
    return ",".join(map(_field, row)) + "\n"


def _field(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return '"' + cell.replace('"', '""') + '"'
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return "NaN" if isinstance(cell, float) and math.isnan(cell) else repr(cell)
