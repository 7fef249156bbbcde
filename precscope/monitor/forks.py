"""A process that was forked has copies of the hooks, and must not use them."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Anything that has to fall silent in a child process."""

    def silence(self) -> None:
        """Observe nothing from now on, and write nothing."""


_alive: weakref.WeakSet[Forked] = weakref.WeakSet()


def silence_in_children(monitor: Forked) -> None:
    """Call ``monitor.silence`` in every process that is forked while it lives."""
    _alive.add(monitor)


def _silence_all() -> None:
    for monitor in list(_alive):
        monitor.silence()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_all)
