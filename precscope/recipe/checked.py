"""Checks of values that come from a file or a caller; each failure is one line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from precscope.errors import UsageError


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise UsageError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{name} {value!r} is unknown: choose one of {', '.join(choices)}")


def check_type(name: str, value: object, kind: type) -> None:
    """Raise UsageError unless ``value`` is a ``kind``; True and False are no integers."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UsageError(f"{name} must be a {kind.__name__}, not {value!r}")


def check_names(name: str, value: object) -> None:
    """Raise UsageError unless ``value`` is a tuple of strings."""
    if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{name} must be a list of names, not {value!r}")


def known_fields(kind: type[Any], values: object) -> dict[str, Any]:
    """``values`` as a dict, if all its keys are fields of the dataclass ``kind``.

    Raises:
        UsageError: not a dict, or an unknown key; the message lists the fields.
    """
    names = [f.name for f in fields(kind)]
    if not isinstance(values, dict):
        raise UsageError(f"expected an object with the keys {', '.join(names)}, not {values!r}")
    if unknown := sorted(str(key) for key in values if key not in names):
        raise UsageError(f"unknown key {unknown[0]!r}: choose from {', '.join(names)}")
    return dict(values)
