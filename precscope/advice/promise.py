"""The promise of the advised recipe, "trains like FP32", and whether the runs kept it.

It is broken by a run that diverged, a final loss beyond FP32's seed-to-seed spread (with one seed:
more than 2 % above FP32's, a convention), a gradient error at the advised scale that loss scaling
should have removed, or more than one step in twenty skipped. A seed on which FP32 itself diverged
breaks no promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precscope.advice.breaches import (
    SAME_LOSS,
    Breach,
    Run,
    behind,
    diverged,
    many_skipped,
    residual_left,
)
from precscope.advice.parity import ADVISED, BASELINE, Parity, parity, under_test
from precscope.advice.residual import NOT_TRAINED, Residual, residual_of


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
        *(diverged(run, runs) for run in judged if run.get("diverged_at") is not None),
        *behind(found, runs),
        *(residual_left(errors) if judged[0] is tested[0] else ()),
        *many_skipped(judged),
    ]
    return Proof(found, errors, skipped, steps, _first_of_each_kind(breaches))


def trains_like_fp32(runs: Sequence[Run], recipe: str) -> bool:
    """Whether a recipe kept what the advised one promises; False if it cannot be told.

    It finished wherever FP32 did, skipped no more than ``MANY_SKIPPED`` of its steps, and its
    final loss is within FP32's spread, with one seed within ``SAME_LOSS``, or better.
    """
    own = [run for run in runs if run.get("recipe") == recipe]
    found = parity([*(run for run in runs if run.get("recipe") == BASELINE), *own])
    if found is None or found.recipe != recipe or not found.loss.seeds or many_skipped(own):
        return False
    if len(found.loss.seeds) > 1:
        return found.verdict in ("parity", "better")
    (difference,), (fp32,) = found.loss.differences, found.loss.fp32
    return found.verdict != "worse" and difference <= SAME_LOSS * abs(fp32)


def fp32_diverged_at(runs: Sequence[Run], seed: object) -> int | None:
    """The step at which FP32 itself diverged on this seed: then there is nothing to train like."""
    baselines = (r for r in runs if r.get("recipe") == BASELINE and r.get("seed") == seed)
    return next((run.get("diverged_at") for run in baselines), None)


def _first_of_each_kind(breaches: Sequence[Breach]) -> tuple[Breach, ...]:
    return tuple({breach.kind: breach for breach in reversed(breaches)}.values())[::-1]
