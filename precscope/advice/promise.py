"""The promise of the advised recipe, "trains like FP32", and whether the runs kept it.

It is broken by a run that diverged, a final loss beyond FP32's seed-to-seed spread (with one seed:
more than 2 % above FP32's, a convention), a gradient error at the advised scale that loss scaling
should have removed, or more than one step in twenty skipped. A seed on which FP32 itself diverged
breaks no promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from precscope.advice.findings import Evidence, Finding
from precscope.advice.parity import (
    ADVISED,
    BASELINE,
    Comparison,
    Parity,
    parity,
    under_test,
)
from precscope.advice.residual import BREAKING_ERROR, NOT_TRAINED, Residual, residual_of
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


@dataclass(frozen=True, slots=True)
class Proof:
    """What training with the advice showed.

    Attributes:
        parity: the recipe under test beside FP32; None if it or FP32 was not trained.
        residual: gradient errors during the advised run.
        skipped: steps skipped by the recipe under test, over all its seeds.
        steps: steps of the recipe under test, over all its seeds.
        breaches: what broke the promise, worst first; empty if it was kept or not put to the test.
    """

    parity: Parity | None
    residual: Residual
    skipped: int
    steps: int
    breaches: tuple[Breach, ...]


def prove(runs: Sequence[Run], residual: Mapping[str, Any] | None = None) -> Proof:
    """Hold the advised runs against the promise.

    Args:
        runs: the recorded runs, FP32 among them.
        residual: the document of that name, see ``residual_of``.
    """
    found, subject = parity(runs), under_test(runs)
    tested = [run for run in runs if run.get("recipe") == subject]
    skipped = sum(int(run.get("skipped_steps") or 0) for run in tested)
    steps = sum(int(run.get("steps") or 0) for run in tested)
    if subject != ADVISED:
        return Proof(found, NOT_TRAINED, skipped, steps, ())
    errors = residual_of(residual)
    judged = [run for run in tested if fp32_diverged_at(runs, run.get("seed")) is None]
    if not judged:
        return Proof(found, errors, skipped, steps, ())
    breaches = [
        *(_diverged(run, runs) for run in judged if run.get("diverged_at") is not None),
        *_behind(found, runs),
        *(_residual(errors) if judged[0] is tested[0] else ()),
        *_skipped(judged),
    ]
    return Proof(found, errors, skipped, steps, _first_of_each_kind(breaches))


def fp32_diverged_at(runs: Sequence[Run], seed: object) -> int | None:
    """The step at which FP32 itself diverged on this seed: then there is nothing to train like."""
    baselines = (r for r in runs if r.get("recipe") == BASELINE and r.get("seed") == seed)
    return next((run.get("diverged_at") for run in baselines), None)


def _first_of_each_kind(breaches: Sequence[Breach]) -> tuple[Breach, ...]:
    return tuple({breach.kind: breach for breach in reversed(breaches)}.values())[::-1]


def relative_loss_gap(run: Run, baseline: Run) -> float | None:
    """``(final - final_fp32) / |final_fp32|``; None where either is missing or not finite."""
    final, reference = run.get("final_loss"), baseline.get("final_loss")
    if not isinstance(final, (int, float)) or not isinstance(reference, (int, float)):
        return None
    gap = (final - reference) / abs(reference) if reference else float("nan")
    return gap if abs(gap) < float("inf") else None


def _diverged(run: Run, runs: Sequence[Run]) -> Breach:
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


def _behind(found: Parity | None, runs: Sequence[Run]) -> list[Breach]:
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


def first_run(runs: Sequence[Run], recipe: str) -> Run | None:
    """The first run of a recipe: that of the first seed."""
    return next((run for run in runs if run.get("recipe") == recipe), None)


def _residual(errors: Residual) -> list[Breach]:
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


def _skipped(judged: Sequence[Run]) -> list[Breach]:
    skipped = sum(int(run.get("skipped_steps") or 0) for run in judged)
    steps = sum(int(run.get("steps") or 0) for run in judged)
    if not steps or skipped <= MANY_SKIPPED * steps:
        return []
    what = f"skipped {skipped} of {steps} steps"
    return [Breach("skipped", what, {"skipped_steps": skipped, "steps": steps})]


def promise_findings(proof: Proof) -> list[Finding]:
    """One finding if the promise was broken, with all its numbers, and one per metric behind."""
    metrics = [_metric_behind(metric) for metric in _metrics_behind(proof)]
    if not proof.breaches:
        return metrics
    evidence: Evidence = {}
    for breach in proof.breaches:
        evidence |= {f"{breach.kind}: {key}": value for key, value in breach.numbers.items()}
    return [
        Finding(
            "promise_broken",
            "critical",
            None,
            f"The advised recipe {told(proof.breaches)}.",
            _remedy(proof.breaches),
            "",
            evidence,
        ),
        *metrics,
    ]


def _remedy(breaches: Sequence[Breach]) -> str:
    if any("fp32_loss" in breach.numbers for breach in breaches):
        return "compute the loss in FP32, from the model's output as .float(), or as a mean"
    return "stay with FP32 or BF16 for now; observe ten times as many steps (--steps) and analyze again"


def _metrics_behind(proof: Proof) -> list[Comparison]:
    found = proof.parity
    if found is None or found.recipe != ADVISED:
        return []
    return [metric for metric in found.metrics if metric.verdict == "worse"]


def _metric_behind(metric: Comparison) -> Finding:
    return Finding(
        "metric_behind",
        "warning",
        None,
        f"{metric.name} of the advised recipe is {metric.reason}",
        "train longer and on more seeds before trusting the recipe: --recipe-steps, --seeds",
        "",
        {"mean_difference": metric.mean_difference, "fp32_range": metric.fp32_range},
    )


def told(breaches: Sequence[Breach]) -> str:
    """All breaches as one clause."""
    return "; it ".join(breach.what for breach in breaches)
