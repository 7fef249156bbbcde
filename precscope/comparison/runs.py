"""Training runs side by side, matched by recipe and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from precscope.comparison.measures import difference, first_of_each

Run = Mapping[str, Any]


def compare_runs(a: Sequence[Run], b: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs of the recipes and seeds that both trained, in A's order."""
    old, new = _keyed(a), _keyed(b)
    return [_compared(old[key], new[key]) for key in old if key in new]


def _keyed(runs: Sequence[Run]) -> dict[tuple[str, Any], Run]:
    return first_of_each(runs, lambda run: (run["recipe"], run["seed"]))


def _compared(a: Run, b: Run) -> dict[str, Any]:
    losses = [final_loss(run) for run in (a, b)]
    change = difference(*losses)
    return {
        "recipe": a["recipe"],
        "seed": a["seed"],
        "final_loss_a": losses[0],
        "final_loss_b": losses[1],
        "difference": change,
        "relative_difference": change / abs(losses[0])
        if change is not None and losses[0]
        else None,
        **{
            f"{what}_{side}": run[what]
            for what in ("diverged_at", "skipped_steps")
            for side, run in (("a", a), ("b", b))
        },
    }


def final_loss(run: Run) -> float | None:
    """The final loss, None where it is missing or not finite."""
    loss = run["final_loss"]
    return loss if isinstance(loss, int | float) and math.isfinite(loss) else None
