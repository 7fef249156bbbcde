"""What an analysis does, and whom it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from precscope.advice.parity import ADVISED
from precscope.environment import choose_device
from precscope.errors import UsageError
from precscope.recipe import Recipe

DEFAULT_RECIPES: tuple[str, ...] = (
    "fp32",
    "advised",
    "fp16",
    "bf16",
    "paper",
    "paper-no-scaling",
    "paper-no-master",
    "paper-fp16-accumulation",
)

MASTER_ALTERNATIVES: tuple[str, ...] = ("paper-kahan", "paper-stochastic-rounding")
"""Trained besides the default recipes where an FP32 master copy is required: what else would do."""

LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE = -40, 40
"""Beyond these no FP16 gradient survives, whatever the model."""


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
        seeds: seeds on which FP32 and the recipe under test are trained, from ``seed`` on; None
            decides by the time that a run takes, see ``plan_seeds``.
        recipe_files: files of recipes to train besides.

    Raises:
        UsageError: a count is below 1, a device that this machine does not have, an unknown recipe,
            or a file that holds none.
    """

    steps: int = 60
    every: int = 1
    seed: int = 0
    device: str = "auto"
    recipes: tuple[str, ...] = DEFAULT_RECIPES
    recipe_steps: int = 100
    train: bool = True
    seeds: int | None = None
    recipe_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "every", "recipe_steps"):
            _check_count(name, getattr(self, name))
        if self.seeds is not None:
            _check_count("seeds", self.seeds)
        choose_device(self.device)
        for name in self.recipes:
            if name != ADVISED:
                Recipe.named(name)
        for path in self.recipe_files:
            Recipe.load(path)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Settings of ``scale_sweep``.

    Attributes:
        log2_from: smallest loss scale, log2.
        log2_to: largest loss scale, log2; reached if ``log2_step`` divides the distance.
        log2_step: distance between scales, log2.
        steps: training steps at each scale.
        seed: seed of weights, batches and dropout, the same for every scale.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        UsageError: a count is below 1, the range is empty or beyond 2^-40 and 2^40, or a device
            that this machine does not have.
    """

    log2_from: int = -12
    log2_to: int = 20
    log2_step: int = 2
    steps: int = 100
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("log2_step", "steps"):
            _check_count(name, getattr(self, name))
        if not LOWEST_LOG2_SCALE <= self.log2_from <= self.log2_to <= HIGHEST_LOG2_SCALE:
            raise UsageError(
                f"scales from 2^{self.log2_from} to 2^{self.log2_to}: choose exponents that rise, "
                f"within {LOWEST_LOG2_SCALE} and {HIGHEST_LOG2_SCALE}"
            )
        choose_device(self.device)

    @property
    def log2_scales(self) -> tuple[int, ...]:
        """The scales, ascending."""
        return tuple(range(self.log2_from, self.log2_to + 1, self.log2_step))


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name}={value}: it must be 1 or more")


class Progress(Protocol):
    """Told how far the analysis is."""

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins, of ``total`` steps if that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """``done`` steps of the phase are over."""
