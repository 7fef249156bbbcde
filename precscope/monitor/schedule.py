"""When to look: which optimizer steps are observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from precscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every ``every``-th step from ``start`` up to, not including, ``stop``.

    Attributes:
        every: distance between observed steps, 1 or more.
        start: first observed step (0 is the first optimizer step).
        stop: first step that is not observed any more, None for no end.

    Raises:
        UsageError: ``every`` is below 1 or ``start`` below 0.
    """

    every: int = 1
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"every={self.every}: observe every 1st step or rarer")
        if self.start < 0:
            raise UsageError(f"start={self.start}: steps count from 0")

    def __call__(self, step: int) -> bool:
        """Whether ``step`` is observed."""
        if step < self.start or (self.stop is not None and step >= self.stop):
            return False
        return (step - self.start) % self.every == 0


StepFilter = Callable[[int], bool]
