"""What a rule can be about: a named quantity, the values it has in a result, and which are meant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Result = dict[str, Any]
"""The JSON result, see ``docs/json.md``."""

Sort = Literal["number", "word", "flag", "level", "finding"]
"""Compared with a number; with one of its words; true or not; with a severity; named findings."""

Over = Literal["model", "sites", "parameters", "sums", "modules", "metrics", "findings", "runs"]
"""What has a value of its own, and so what the patterns after ``@`` select."""

QualifierKind = Literal["format", "kind", "scale", "all", "recipe"]

Scale = int | Literal["advised"] | None
"""log2 of a loss scale, the recommended one, or None for the default of the format."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which values of a quantity a rule is about.

    Attributes:
        patterns: of names; ``*`` and ``?`` stand for any characters and any one; empty for all.
        format: name of the number format.
        kinds: kinds of site; empty for all.
        scale: the loss scale that gradients are judged at.
        everything: also what half precision training keeps in FP32, or every recipe.
        recipe: whose runs; None for the recipe under test.
    """

    patterns: tuple[str, ...] = ()
    format: str = "fp16"
    kinds: frozenset[str] = frozenset()
    scale: Scale = None
    everything: bool = False
    recipe: str | None = None

    def names(self, name: str) -> bool:
        """Whether ``name`` is among the names meant."""
        return not self.patterns or any(matches(pattern, name) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value.

    Attributes:
        name: the place that patterns select by; empty for the whole model.
        label: the place as it is shown.
        number: the value, NaN where it is none; a NaN hits every rule.
        words: the value in words, for the quantities that have one; the first is shown.
        detail: how it came about, in a few words.
    """

    name: str
    label: str
    number: float = math.nan
    words: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """The values of a quantity in one result.

    Attributes:
        found: the values meant.
        absent: why there are none, or why those there are are not all; empty otherwise.
    """

    found: tuple[Reading, ...] = ()
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that rules can be about.

    Attributes:
        name: as it is written in a rule.
        sort: what it is compared with.
        over: what has a value of its own.
        unit: of its numbers.
        definition: what it is, for the documentation and for people.
        read: takes the values out of a result.
        words: those it can be, for words and levels.
        qualifiers: what the brackets may hold.
        lower: smallest number that it can be.
        upper: largest number that it can be.
        trained: whether only training runs give it a value.
    """

    name: str
    sort: Sort
    over: Over
    unit: str
    definition: str
    read: Callable[[Result, Selection], Readings]
    words: tuple[str, ...] = ()
    qualifiers: frozenset[QualifierKind] = frozenset()
    lower: float = -math.inf
    upper: float = math.inf
    trained: bool = False


def matches(pattern: str, name: str) -> bool:
    """Whether the whole of ``name`` is what ``pattern`` says; brackets are plain characters."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def number(value: Any) -> float:
    """A number of a result; NaN for null and for the words that stand for numbers in JSON.

    Raises:
        TypeError: it is something else.
    """
    if value is None or isinstance(value, str):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{type(value).__name__} where a number is expected")
    return float(value)


def model_reading(value: Any, detail: str = "") -> Reading:
    """A number that the model has once."""
    return Reading("", "the model", number(value), (), detail)


def none_meant(selection: Selection, what: str, names: list[str]) -> Readings:
    """No value, because no name matches; says so with one that exists."""
    if not names:
        return Readings(absent=f"the run has no {what}")
    wanted = ", ".join(selection.patterns)
    return Readings(absent=f"no {what} matches {wanted!r}, there is {names[0]!r} for example")
