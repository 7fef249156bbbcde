"""How many seeds FP32 and the recipe under test are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from precscope.training.training_run import TrainingRun

SECONDS_PER_RECIPE = 20.0
"""Training time per recipe, all seeds together, that is taken without being asked."""

SEVERAL = 3
"""Fewest seeds whose range and standard deviation say anything."""

SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """Seeds of the proof.

    Attributes:
        count: how many.
        asked: whether the user said so.
        reason: why as many.
    """

    count: int
    asked: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def plan_seeds(asked: int | None, first_runs: Sequence[TrainingRun], is_proof: bool) -> SeedPlan:
    """As many as asked for; else three where they are quick, and one where they are not.

    Three if ``3 * steps * median step time`` of the slower run is at most 20 s.

    Args:
        asked: what the user said, None if nothing.
        first_runs: the runs of the first seed: FP32, and the recipe under test if there is one.
        is_proof: whether that recipe is the advised one.
    """
    if len(first_runs) < 2:
        return SeedPlan(1, False, "no recipe was trained beside FP32")
    if asked is not None:
        return SeedPlan(asked, True, f"{asked} asked for")
    if not is_proof:
        return SeedPlan(1, False, "the advised recipe is not among the recipes; --seeds compares")
    seconds = max(_seconds(run) for run in first_runs)
    if SEVERAL * seconds <= SECONDS_PER_RECIPE:
        return SeedPlan(
            SEVERAL, False, f"{SEVERAL} runs take no more than {SECONDS_PER_RECIPE:.0f} s"
        )
    return SeedPlan(
        1,
        False,
        f"one run takes {seconds:.1f} s, {SEVERAL} would take more than "
        f"{SECONDS_PER_RECIPE:.0f} s: --seeds {SEVERAL} does it",
    )


def _seconds(run: TrainingRun) -> float:
    return run.steps * run.step_ms.median_ms / 1e3 if run.step_ms else 0.0


def further_seeds(first: int, count: int) -> tuple[int, ...]:
    """The seeds after ``first``, ``count`` with it; after the largest comes 0."""
    return tuple((first + i) % SEEDS for i in range(1, count))
