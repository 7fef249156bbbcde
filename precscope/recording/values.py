"""Checks on single values from the file: whatever a stranger put there, ValueError or a value."""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeAlias

SqlValue: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[SqlValue, ...]

MAX_INTEGER: Final = 1 << 53
MAX_TEXT_LENGTH: Final = 1 << 16
MAX_NESTING: Final = 64
MAX_JSON_INTEGER: Final = 1 << 64
"""Seeds have 64 bits; float64, in which numbers are drawn, goes much further."""


def integer(value: SqlValue, low: int = 0, high: int = MAX_INTEGER) -> int:
    """An integer from ``low`` to ``high``."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"expected an integer from {low} to {high}")
    return value


def optional_integer(value: SqlValue, high: int = MAX_INTEGER) -> int | None:
    """A non-negative integer up to ``high``, or None."""
    return None if value is None else integer(value, 0, high)


def real(value: SqlValue) -> float:
    """Any float; NaN is the text ``"nan"``, see ``real_to_sql``."""
    if value == "nan":
        return math.nan
    if type(value) is not float:
        raise ValueError("expected a number")
    return value


def real_to_sql(value: float | None) -> SqlValue:
    """The inverse of ``real``: SQLite has no NaN and would silently store NULL."""
    if value is None:
        return None
    number = float(value)
    return "nan" if math.isnan(number) else number


def optional_real(value: SqlValue) -> float | None:
    """Any float, or None."""
    return None if value is None else real(value)


def finite(value: SqlValue) -> float:
    """A finite float."""
    number = real(value)
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def magnitude(value: SqlValue) -> float:
    """A finite float that is not negative."""
    number = finite(value)
    if number < 0.0:
        raise ValueError("expected a magnitude")
    return number


def non_negative(value: SqlValue) -> float:
    """A float that is not negative and not NaN; a sum may have overflowed to infinity."""
    number = real(value)
    if not number >= 0.0:
        raise ValueError("expected a sum of magnitudes")
    return number


def text(value: SqlValue) -> str:
    """A string of at most 65536 characters."""
    if type(value) is not str or len(value) > MAX_TEXT_LENGTH:
        raise ValueError("expected a short text")
    return value


def text_to_sql(value: str) -> str:
    """The inverse of ``text``: lone surrogates, which UTF-8 cannot hold, become ``?``."""
    return value[:MAX_TEXT_LENGTH].encode("utf-8", "replace").decode("utf-8")


def json_value(value: SqlValue) -> Any:
    """The value of a JSON text."""
    if type(value) is not str:
        raise ValueError("expected a JSON text")
    try:
        decoded = json.loads(value)
        # An escaped lone surrogate decodes, and then fails wherever it is printed.
        json.dumps(decoded, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("a JSON text is nested too deeply") from None
    _check_nesting(decoded, MAX_NESTING)
    return decoded


def _check_nesting(value: Any, left: int) -> None:
    """Whoever walks the value later does so by calls, of which Python allows a thousand."""
    if isinstance(value, int) and abs(value) > MAX_JSON_INTEGER:
        raise ValueError("a JSON text holds an integer that is too large")
    if not isinstance(value, list | dict):
        return
    if not left:
        raise ValueError("a JSON text is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        _check_nesting(item, left - 1)


def json_to_sql(value: object) -> str:
    """A JSON text.

    Raises:
        ValueError: the value has no JSON form.
    """
    try:
        encoded = json.dumps(value, ensure_ascii=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a JSON value ({error})") from None
    return encoded.encode("utf-8", "replace").decode("utf-8")
