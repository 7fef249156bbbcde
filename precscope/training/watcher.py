"""BackwardWatcher: who wants to know of each backward pass of a trainer."""

from __future__ import annotations

from typing import Protocol


class BackwardWatcher(Protocol):
    """Who measures what backward needs and leaves."""

    def before_backward(self) -> None:
        """All that forward saves is saved."""

    def after_backward(self) -> None:
        """The gradients are as backward left them."""
