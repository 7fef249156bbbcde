"""What a column and a table of an export are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["integer", "real", "boolean", "text"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as it stands in the file.
        type: of its values; any value may be missing.
        unit: in one word; empty for names and numbers without one.
        meaning: one line.
    """

    name: str
    type: ColumnType
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: of the table and of its file.
        row: what one row is.
        columns: in the order in which they stand.
    """

    name: str
    row: str
    columns: tuple[Column, ...]


def text(name: str, meaning: str) -> Column:
    """A column of texts."""
    return Column(name, "text", "", meaning)


def integer(name: str, unit: str, meaning: str) -> Column:
    """A column of 64-bit integers."""
    return Column(name, "integer", unit, meaning)


def real(name: str, unit: str, meaning: str) -> Column:
    """A column of float64; it may hold NaN and infinities."""
    return Column(name, "real", unit, meaning)


def yes_no(name: str, meaning: str) -> Column:
    """A column of booleans."""
    return Column(name, "boolean", "", meaning)
