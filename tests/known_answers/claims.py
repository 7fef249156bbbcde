"""Claims: an answer that is known beforehand, beside the one that was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the table.

    Attributes:
        what: the number or word in question.
        expected: what it has to be, by construction.
        found: what precscope says.
        margin: how far that is from the nearest wrong answer, with its unit.
        right: whether it is the known answer.
    """

    what: str
    expected: str
    found: str
    margin: str
    right: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A workload whose right answer is known.

    Attributes:
        name: names it in the table and on the command line.
        why: the argument that makes the answer known.
        judge: runs the workload, given an empty folder, and holds the answer against it.
    """

    name: str
    why: str
    judge: Callable[[Path], Iterable[Claim]]


def exactly(what: str, expected: object, found: object, margin: str = "exact") -> Claim:
    """``found`` has to equal ``expected``."""
    return Claim(what, told(expected), told(found), margin, found == expected)


def names(what: str, expected: str, found: object) -> Claim:
    """``found`` has to be a text with ``expected`` in it."""
    return Claim(what, expected, told(found), "exact", expected in str(found))


def among(what: str, expected: tuple[str, ...], found: object) -> Claim:
    """``found`` has to be one of ``expected``."""
    return Claim(what, " or ".join(expected), told(found), "exact", found in expected)


def near(what: str, expected: float, found: object, tolerance: float) -> Claim:
    """``found`` has to be a number within ``tolerance`` of ``expected``."""
    if not isinstance(found, (int, float)):
        return Claim(what, told(expected), told(found), "none", False)
    left = tolerance - abs(found - expected)
    return Claim(what, told(expected), told(found), f"{left:.2g} of {tolerance:.2g}", left >= 0)


def above(what: str, limit: float, found: object) -> Claim:
    """``found`` has to be a number above ``limit``."""
    if not isinstance(found, (int, float)):
        return Claim(what, f"> {told(limit)}", told(found), "none", False)
    return Claim(what, f"> {told(limit)}", told(found), f"{found - limit:.2g}", found > limit)


def below(what: str, limit: float, found: object) -> Claim:
    """``found`` has to be a number below ``limit``."""
    if not isinstance(found, (int, float)):
        return Claim(what, f"< {told(limit)}", told(found), "none", False)
    return Claim(what, f"< {told(limit)}", told(found), f"{limit - found:.2g}", found < limit)


def told(value: object) -> str:
    """Short text of a value: floats at four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(told, value)) + "]"
    return str(value)


def exponent_name(exponent: int) -> str:
    """``5`` or ``minus-5``: for names that pytest's ``-k`` can select."""
    return f"{exponent}" if exponent >= 0 else f"minus-{-exponent}"
