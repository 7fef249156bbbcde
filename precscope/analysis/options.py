"""What an analysis does, and whom it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from precscope.errors import UsageError

DEFAULT_RECIPES: tuple[str, ...] = (
    "fp32",
    "advised",
    "fp16",
    "bf16",
    "paper",
    "paper-no-scaling",
    "paper-no-master",
)


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """Settings of ``analyze`` and ``train``.

    Attributes:
        steps: FP32 training steps to observe.
        every: observe every n-th of them.
        seed: seed of weights, batches and dropout, the same for every recipe.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        recipes: names to train in the verify phase; ``fp32`` is trained first in any case.
        recipe_steps: training steps per recipe.
        train: False leaves the verify phase out.

    Raises:
        UsageError: a count is below 1.
    """

    steps: int = 60
    every: int = 1
    seed: int = 0
    device: str = "auto"
    recipes: tuple[str, ...] = DEFAULT_RECIPES
    recipe_steps: int = 100
    train: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "every", "recipe_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: it must be 1 or more")


class Progress(Protocol):
    """Told how far the analysis is."""

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins, of ``total`` steps if that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """``done`` steps of the phase are over."""
