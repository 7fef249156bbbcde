"""Hooks that stay with the watched model: a copy of the model does not take them along."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch.utils.hooks import RemovableHandle


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


class Attachment:
    """A hook that can be taken off for a while."""

    def __init__(self, attach: Callable[[], RemovableHandle]) -> None:
        self._attach = attach
        self._handle: RemovableHandle | None = attach()

    def put_back(self) -> None:
        """Attach the hook, if it is off."""
        if self._handle is None:
            self._handle = self._attach()

    def take_off(self) -> None:
        """Remove the hook, if it is on."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
