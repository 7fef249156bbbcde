"""The ways in which a run can break the promise of the advised recipe, "trains like FP32"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from precscope.advice.findings import Evidence
from precscope.advice.parity import ADVISED, BASELINE, Parity
from precscope.advice.residual import BREAKING_ERROR, Residual
from precscope.formats import FP16

SAME_LOSS = 0.02
"""Relative difference of final losses within which one seed cannot tell two runs apart. A
convention, used only where there is a single seed."""

MANY_SKIPPED = 0.05
"""Share of skipped steps above which the run is not the one that FP32 made. A convention; a scale
that is found by backing off a few times stays below it."""

BreachKind = Literal["diverged", "behind", "residual", "skipped"]
Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Breach:
    """One way in which the advised recipe broke its promise.

    Attributes:
        kind: which.
        what: said in words, as in "the advised recipe ...".
        numbers: the evidence.
    """

    kind: BreachKind
    what: str
    numbers: Evidence


def diverged(run: Run, runs: Sequence[Run]) -> Breach:
    """The breach of a run that diverged; it names FP32's loss of that step where FP16 has none.

    Args:
        run: with ``diverged_at``, a step.
        runs: all of them, FP32's on the same seed among them.
    """
    seed, step = run.get("seed"), int(run["diverged_at"])
    on = f" (seed {seed})" if seed is not None else ""
    numbers: Evidence = {"diverged_at": step, "seed": seed}
    loss = _fp32_loss(runs, seed, step)
    if loss is None or not FP16.overflows(loss):
        return Breach("diverged", f"diverged at step {step}{on}", numbers)
    beyond = f", where FP32's loss is {loss:.4g}, beyond FP16's {FP16.max_finite:.0f}"
    numbers["fp32_loss"] = loss
    return Breach("diverged", f"diverged at step {step}{on}{beyond}", numbers)


def _fp32_loss(runs: Sequence[Run], seed: object, step: int) -> float | None:
    baseline = next((r for r in runs if (r.get("recipe"), r.get("seed")) == (BASELINE, seed)), {})
    losses = baseline.get("losses") or ()
    loss = losses[step] if 0 <= step < len(losses) else None
    return abs(loss) if isinstance(loss, (int, float)) else None


def behind(found: Parity | None, runs: Sequence[Run]) -> list[Breach]:
    """The breach of a final loss beyond FP32's own spread; [] if there is none, or a run diverged.

    With one seed: a relative loss gap above ``SAME_LOSS``; a loss that is missing or not finite
    breaks nothing here.
    """
    if found is None or found.diverged_seeds:
        return []
    loss = found.loss
    if len(loss.seeds) > 1:
        if loss.verdict != "worse":
            return []
        numbers: Evidence = {
            "mean_difference": loss.mean_difference,
            "fp32_range": loss.fp32_range,
            "fp32_sd": loss.fp32_sd,
            "seeds": len(loss.seeds),
        }
        return [Breach("behind", f"ended {loss.reason}", numbers)]
    return _behind_on_one_seed(runs)


def _behind_on_one_seed(runs: Sequence[Run]) -> list[Breach]:
    baseline, advised = first_run(runs, BASELINE), first_run(runs, ADVISED)
    gap = relative_loss_gap(advised, baseline) if baseline and advised else None
    if gap is None or gap <= SAME_LOSS:
        return []
    what = f"ended {gap:.1%} above FP32's final loss on the one seed that was trained"
    return [Breach("behind", what, {"relative_difference": gap, "seeds": 1})]


def residual_left(errors: Residual) -> list[Breach]:
    """The breach of a gradient error that the advised scale leaves; [] without a worst point."""
    worst = errors.worst
    if worst is None or not worst.breaks:
        return []
    at = f"after step {worst.step} at the scale 2^{worst.log2_scale}"
    if worst.error is None:
        what = f"overflows the gradient of {worst.parameter or 'a parameter'} {at}"
    else:
        what = (
            f"leaves a gradient error of {worst.error:.0%} in {worst.parameter} {at}, "
            f"where {worst.tolerated or 0.0:.1%} is tolerated"
        )
    numbers: Evidence = {
        "gradient_error": worst.error,
        "gradient_error_limit": BREAKING_ERROR,
        "parameter": worst.parameter,
        "step": worst.step,
        "log2_scale": worst.log2_scale,
    }
    return [Breach("residual", what, numbers)]


def many_skipped(judged: Sequence[Run]) -> list[Breach]:
    """The breach of more skipped steps than ``MANY_SKIPPED`` of all; [] without steps."""
    skipped = sum(int(run.get("skipped_steps") or 0) for run in judged)
    steps = sum(int(run.get("steps") or 0) for run in judged)
    if not steps or skipped <= MANY_SKIPPED * steps:
        return []
    what = f"skipped {skipped} of {steps} steps"
    return [Breach("skipped", what, {"skipped_steps": skipped, "steps": steps})]


def relative_loss_gap(run: Run, baseline: Run) -> float | None:
    """``(final - final_fp32) / |final_fp32|``; None where either is missing or not finite."""
    final, reference = run.get("final_loss"), baseline.get("final_loss")
    if not isinstance(final, (int, float)) or not isinstance(reference, (int, float)):
        return None
    gap = (final - reference) / abs(reference) if reference else float("nan")
    return gap if abs(gap) < float("inf") else None


def first_run(runs: Sequence[Run], recipe: str) -> Run | None:
    """The first run of a recipe: that of the first seed."""
    return next((run for run in runs if run.get("recipe") == recipe), None)


def told(breaches: Sequence[Breach]) -> str:
    """All breaches as one clause."""
    return "; it ".join(breach.what for breach in breaches)
