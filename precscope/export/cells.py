"""The cells of a table: values of a result, read as the type of their column."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from precscope.export.column import Column, Table

Cell = int | float | bool | str | None

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def cell(record: Mapping[str, Any], table: Table, column: Column) -> Cell:
    """The value of that column in a row of the result; None where it is missing.

    A real may be the JSON text ``NaN``, ``Infinity`` or ``-Infinity``.

    Raises:
        ValueError: it has another type than the column.
    """
    return _READERS[column.type](record.get(column.name), f"{table.name}.{column.name}")


def _integer(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{place}: expected an integer")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{place}: expected an integer of 64 bits")
    return int(value)


def _real(value: Any, place: str) -> float | None:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{place}: expected a number")
    return None if value is None else float(value)


def _boolean(value: Any, place: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{place}: expected true or false")
    return value


def _text(value: Any, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place}: expected a text")
    return value


_READERS: Mapping[str, Callable[[Any, str], Cell]] = {
    "integer": _integer,
    "real": _real,
    "boolean": _boolean,
    "text": _text,
}
