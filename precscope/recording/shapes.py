"""The shape that JSON from a stranger must have, said in data and checked before it is used.

A shape is a function of a value and the place where it stands; it raises ValueError with one line
that names the place. Keys that a shape does not name are let through unread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Shape: TypeAlias = Callable[[Any, str], None]


def anything(value: Any, place: str) -> None:
    """Any JSON value."""


def text(value: Any, place: str) -> None:
    """A string."""
    _require(isinstance(value, str), place, "a text")


def boolean(value: Any, place: str) -> None:
    """True or False."""
    _require(isinstance(value, bool), place, "true or false")


def number(value: Any, place: str) -> None:
    """A number that float64 can hold, NaN and infinities included; no boolean."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(is_number and (isinstance(value, float) or abs(value) < 2**63), place, "a number")


def finite(value: Any, place: str) -> None:
    """A finite number."""
    number(value, place)
    _require(math.isfinite(value), place, "a finite number")


def magnitude(value: Any, place: str) -> None:
    """A finite number that is not negative."""
    finite(value, place)
    _require(value >= 0, place, "a number that is not negative")


def count(value: Any, place: str) -> None:
    """An integer that is not negative."""
    number(value, place)
    _require(isinstance(value, int) and value >= 0, place, "a count")


def integer(value: Any, place: str) -> None:
    """An integer of 64 bits."""
    number(value, place)
    _require(isinstance(value, int), place, "an integer")


def loss(value: Any, place: str) -> None:
    """A number, or what ``docs/json.md`` writes for one that is not finite."""
    if value not in ("NaN", "Infinity", "-Infinity"):
        number(value, place)


def or_none(shape: Shape) -> Shape:
    """The shape, or null."""
    return lambda value, place: None if value is None else shape(value, place)


def one_of(words: Sequence[str]) -> Shape:
    """One of the words."""
    return lambda value, place: _require(value in words, place, " or ".join(words))


def list_of(shape: Shape) -> Shape:
    """A list in which every item has the shape."""

    def check(value: Any, place: str) -> None:
        _require(isinstance(value, list), place, "a list")
        for index, item in enumerate(value):
            shape(item, f"{place}[{index}]")

    return check


def values_of(shape: Shape) -> Shape:
    """An object in which every value has the shape."""

    def check(value: Any, place: str) -> None:
        _require(isinstance(value, dict), place, "an object")
        for key, item in value.items():
            shape(item, f"{place}.{key[:40]}")

    return check


def fields(optional: dict[str, Shape] | None = None, /, **required: Shape) -> Shape:
    """An object with the required keys; ``optional`` ones have their shape where they are there."""

    def check(value: Any, place: str) -> None:
        _require(isinstance(value, dict), place, "an object")
        for key, shape in required.items():
            _require(key in value, place, f"the key {key}")
            shape(value[key], f"{place}.{key}")
        for key, shape in (optional or {}).items():
            if key in value:
                shape(value[key], f"{place}.{key}")

    return check


def _require(is_right: bool, place: str, expected: str) -> None:
    if not is_right:
        raise ValueError(f"{place}: expected {expected}")
