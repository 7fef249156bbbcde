"""Hooks that stay with the watched model: a copy of the model does not take them along."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any


class Guest:
    """A hook that drops out of ``deepcopy`` and ``pickle``.

    In its place stands a function of the standard library that takes anything and does nothing,
    so that a pickled model can be loaded where precscope is not installed.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return nullcontext().__exit__

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (nullcontext(), "__exit__")


class Calling(Guest):
    """A guest that calls a function."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> None:
        """Pass everything on."""
        self._call(*arguments)
