"""Parity: a recipe's final loss beside FP32's on the same seeds, against FP32's own spread.

    d_s    = final_s(recipe) - final_s(FP32)        for every seed s that both finished
    spread = max_s final_s(FP32) - min_s final_s(FP32)

Parity is ``|mean d| <= spread``: the recipe moves the result by no more than another seed would.
The paper judges by the same yardstick: its identical FP32 runs differ visibly, and mixed precision
differs by no more. Fewer than two seeds, or a spread of zero, show no yardstick at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev
from typing import Any, Literal

ParityVerdict = Literal["parity", "better", "worse", "unknown"]

BASELINE = "fp32"
ADVISED = "advised"
FINAL_LOSS = "final_loss"

Run = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number of a recipe beside FP32's, over the seeds that both finished.

    Attributes:
        name: ``final_loss``, or a metric of ``evaluate``.
        higher_is_better: True for metrics, False for the loss.
        seeds: seeds compared.
        fp32: FP32's value for each seed.
        recipe: the recipe's value for each seed.
        differences: recipe minus FP32, seed by seed.
        mean_difference: their mean; None without a seed.
        fp32_mean: mean of FP32's values; None without a seed.
        fp32_range: largest minus smallest of FP32's values; None with fewer than two seeds.
        fp32_sd: their sample standard deviation (n - 1); None with fewer than two seeds.
        verdict: ``parity``, ``better`` or ``worse`` (beyond the spread), or ``unknown``.
        reason: the verdict in words, with its numbers.
    """

    name: str
    higher_is_better: bool
    seeds: tuple[int, ...]
    fp32: tuple[float, ...]
    recipe: tuple[float, ...]
    differences: tuple[float, ...]
    mean_difference: float | None
    fp32_mean: float | None
    fp32_range: float | None
    fp32_sd: float | None
    verdict: ParityVerdict
    reason: str


@dataclass(frozen=True, slots=True)
class Parity:
    """What can be said about a recipe beside FP32.

    Attributes:
        recipe: the recipe under test.
        verdict: that of the final loss; ``worse`` also if the recipe diverged where FP32 did not.
        reason: the verdict in words, with its numbers.
        diverged_seeds: seeds on which the recipe diverged and FP32 did not.
        loss: the final losses.
        metrics: every metric that all compared runs have.
    """

    recipe: str
    verdict: ParityVerdict
    reason: str
    diverged_seeds: tuple[int, ...]
    loss: Comparison
    metrics: tuple[Comparison, ...]


def compare(
    name: str,
    seeds: Sequence[int],
    fp32: Sequence[float],
    recipe: Sequence[float],
    higher_is_better: bool = False,
) -> Comparison:
    """Compare a recipe's values with FP32's, seed by seed.

    Args:
        name: what is compared.
        seeds: of the values.
        fp32: FP32's values, one per seed, all finite.
        recipe: the recipe's, one per seed, all finite.
        higher_is_better: True for metrics, False for a loss.

    Returns:
        The comparison; ``unknown`` with fewer than two seeds, and where FP32's values are all the
        same and the recipe's are not.

    Raises:
        ValueError: more values of one than of the other.
    """
    differences = tuple(r - f for r, f in zip(recipe, fp32, strict=True))
    mean = fmean(differences) if differences else None
    several = len(fp32) > 1
    spread = max(fp32) - min(fp32) if several else None
    verdict = _verdict(differences, mean, spread, higher_is_better)
    return Comparison(
        name=name,
        higher_is_better=higher_is_better,
        seeds=tuple(seeds),
        fp32=tuple(fp32),
        recipe=tuple(recipe),
        differences=differences,
        mean_difference=mean,
        fp32_mean=fmean(fp32) if fp32 else None,
        fp32_range=spread,
        fp32_sd=stdev(fp32) if several else None,
        verdict=verdict,
        reason=_reason(verdict, len(fp32), mean, spread),
    )


def _verdict(
    differences: Sequence[float], mean: float | None, spread: float | None, higher_is_better: bool
) -> ParityVerdict:
    if mean is None or spread is None:
        return "unknown"
    if spread == 0.0:
        return "unknown" if any(differences) else "parity"
    if abs(mean) <= spread:
        return "parity"
    return "better" if (mean > 0.0) == higher_is_better else "worse"


def _reason(verdict: ParityVerdict, seeds: int, mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "cannot tell: no seed on which both runs finished"
    if spread is None:
        return "cannot tell: one seed shows no seed-to-seed spread"
    if verdict == "unknown":
        return f"cannot tell: FP32's spread over {seeds} seeds is zero, the mean difference {mean:+.3g}"
    numbers = (
        f"mean paired difference {mean:+.3g} over {seeds} seeds, FP32's own spread {spread:.3g}"
    )
    words = {
        "parity": f"parity: {numbers}",
        "better": f"better by {abs(mean):.3g}, beyond the spread: {numbers}",
        "worse": f"worse by {abs(mean):.3g}, beyond the spread: {numbers}",
    }
    return words[verdict]


def under_test(runs: Sequence[Run]) -> str | None:
    """The recipe that the proof is about: ``advised``, else the first one that is not FP32."""
    names = [str(run.get("recipe")) for run in runs]
    if ADVISED in names:
        return ADVISED
    return next((name for name in names if name != BASELINE), None)


def parity(runs: Sequence[Run]) -> Parity | None:
    """Judge the recipe under test by the recorded runs; None without FP32 or without a recipe."""
    subject = under_test(runs)
    baseline = _by_seed(runs, BASELINE)
    if subject is None or not baseline:
        return None
    tested = _by_seed(runs, subject)
    shared = [seed for seed in baseline if seed in tested]
    usable = [s for s in shared if _finished(baseline[s]) and _finished(tested[s])]
    diverged = tuple(s for s in shared if _finished(baseline[s]) and not _finished(tested[s]))
    loss = _compared(FINAL_LOSS, usable, baseline, tested)
    metrics = tuple(
        _compared(name, usable, baseline, tested, is_metric=True)
        for name in _metric_names([runs_of[s] for runs_of in (baseline, tested) for s in usable])
    )
    reason = _diverged(subject, diverged) if diverged else loss.reason
    return Parity(subject, "worse" if diverged else loss.verdict, reason, diverged, loss, metrics)


def _by_seed(runs: Sequence[Run], recipe: str) -> dict[int, Run]:
    """The first run of each seed; Recordings made by hand may leave the seed out."""
    found: dict[int, Run] = {}
    for run in runs:
        if run.get("recipe") == recipe:
            found.setdefault(int(run.get("seed") or 0), run)
    return found


def _finished(run: Run) -> bool:
    return run.get("diverged_at") is None and _number(run.get(FINAL_LOSS)) is not None


def _number(value: object) -> float | None:
    usable = isinstance(value, (int, float)) and isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]


def _compared(
    name: str,
    seeds: Sequence[int],
    baseline: Mapping[int, Run],
    tested: Mapping[int, Run],
    is_metric: bool = False,
) -> Comparison:
    def values(runs: Mapping[int, Run]) -> list[float]:
        return [float(runs[s]["metrics"][name] if is_metric else runs[s][name]) for s in seeds]

    return compare(name, seeds, values(baseline), values(tested), higher_is_better=is_metric)


def _metric_names(runs: Sequence[Run]) -> list[str]:
    """Metrics that every run has as a finite number, in the order of the first."""
    metrics = [run.get("metrics") or {} for run in runs]
    first = metrics[0] if metrics else {}
    return [n for n in first if all(_number(m.get(n)) is not None for m in metrics)]


def _diverged(subject: str, seeds: Sequence[int]) -> str:
    named = ", ".join(map(str, seeds))
    return f"{subject} diverged where FP32 did not: seed {named}"
