"""Training runs made by hand, as a Recording stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def run(recipe: str, final: float | None, seed: int = 0, **known: Any) -> dict[str, Any]:
    """A run of 100 steps that ended at ``final``; None is one that diverged at step 7."""
    return {
        "recipe": recipe,
        "seed": seed,
        "steps": 100,
        "final_loss": final,
        "diverged_at": 7 if final is None else None,
        "skipped_steps": 0,
        "metrics": {},
        **known,
    }


def runs(**finals: Sequence[float | None]) -> list[dict[str, Any]]:
    """Runs of several recipes on the seeds 0, 1, 2, ...: ``runs(fp32=[1.0, 1.1], advised=[...])``."""
    return [
        run(recipe.replace("_", "-"), final, seed)
        for recipe, values in finals.items()
        for seed, final in enumerate(values)
    ]
