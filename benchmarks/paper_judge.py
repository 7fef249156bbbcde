"""From cells to judgements: each recipe beside FP32, and each advice beside what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from paper_plan import DOMAINS, Domain

from precscope.advice.parity import Comparison, compare

Run = Mapping[str, Any]
Cells = Mapping[str, Run]
FP32, WHOLE = "fp32", "paper"
"""The yardstick, and the recipe that the ablations leave something out of."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recipe beside FP32 in one domain.

    Attributes:
        recipe: its name.
        loss: final losses compared.
        metric: the metric compared; None if there is none.
        judged: the one of the two that counts.
        diverged: seeds that diverged where FP32 did not.
        skipped: steps skipped, all seeds together.
        steps: steps, all seeds together.
    """

    recipe: str
    loss: Comparison
    metric: Comparison | None
    judged: Comparison
    diverged: int
    skipped: int
    steps: int

    @property
    def verdict(self) -> str:
        """``parity``, ``better``, ``worse``, ``unknown``; ``diverged`` if a seed did."""
        return "diverged" if self.diverged else self.judged.verdict

    @property
    def is_harmed(self) -> bool:
        """Worse than FP32, beyond FP32's own spread."""
        return self.verdict in ("worse", "diverged")


def runs_of(cells: Cells, domain: str, recipe: str) -> dict[int, Mapping[str, Any]]:
    """Finished runs by seed."""
    start = f"{domain}/train/{recipe}/"
    return {
        int(key.removeprefix(start)): cell
        for key, cell in cells.items()
        if key.startswith(start) and "error" not in cell
    }


def outcome(cells: Cells, domain: Domain, recipe: str, beside: str = FP32) -> Outcome | None:
    """The recipe beside another on the seeds that both have; None if either was not run.

    The yardstick is FP32's range over all of its seeds, also where the recipes have fewer.

    Args:
        cells: finished ones.
        domain: which.
        recipe: under test.
        beside: what it is compared with. For what an ablation leaves out of ``paper``, that one:
            both skip the steps in which a dynamic scale finds its place.
    """
    base, tested = runs_of(cells, domain.name, beside), runs_of(cells, domain.name, recipe)
    fp32 = list(runs_of(cells, domain.name, FP32).values())
    shared = sorted(set(base) & set(tested))
    if not shared or not fp32:
        return None
    pairs = [(seed, base[seed], tested[seed]) for seed in shared]
    loss = _compared("final_loss", pairs, fp32)
    metric = next((_compared(name, pairs, fp32) for name in fp32[0]["metrics"]), None)
    runs = [tested[seed] for seed in shared]
    return Outcome(
        recipe=recipe,
        loss=loss,
        metric=metric,
        judged=metric if domain.judged_by == "metric" and metric else loss,
        diverged=sum(run["diverged_at"] is not None for run in runs),
        skipped=sum(run["skipped_steps"] for run in runs),
        steps=sum(run["steps"] for run in runs),
    )


def _compared(name: str, pairs: Sequence[tuple[int, Run, Run]], fp32: Sequence[Run]) -> Comparison:
    values = [(seed, _value(base, name), _value(tested, name)) for seed, base, tested in pairs]
    seeds = [seed for seed, *both in values if None not in both]
    ones = [one for _, one, other in values if one is not None and other is not None]
    others = [other for _, one, other in values if one is not None and other is not None]
    found = compare(name, seeds, ones, others, higher_is_better=name != "final_loss")
    yardstick = [value for run in fp32 if (value := _value(run, name)) is not None]
    return _by_the_spread_of(found, yardstick)


def _value(run: Run, name: str) -> float | None:
    value = run["final_loss"] if name == "final_loss" else run["metrics"].get(name)
    return float(value) if value is not None and isfinite(value) else None


def _by_the_spread_of(found: Comparison, fp32: Sequence[float]) -> Comparison:
    mean = found.mean_difference
    if mean is None or len(fp32) < 2 or max(fp32) == min(fp32):
        return found
    spread = max(fp32) - min(fp32)
    is_better = (mean > 0) == found.higher_is_better
    verdict: Any = "parity" if abs(mean) <= spread else "better" if is_better else "worse"
    return replace(found, fp32_range=spread, verdict=verdict)


@dataclass(frozen=True, slots=True)
class AdviceCheck:
    """One advice, what happened, and whether the advice was right."""

    what: str
    advised: str
    happened: str
    right: str


def advice_checks(cells: Cells, domain: Domain) -> list[AdviceCheck]:
    """The advice given before training beside what the ablations showed; [] without one."""
    advice = cells.get(f"{domain.name}/advise/fp32/0", {})
    if "loss_scale" not in advice:
        return []
    scale, need = advice["loss_scale"]["verdict"], advice["master_weights"]["verdict"]
    named = {"not_needed": "not needed", "impossible": "no single scale works"}
    checks = [
        _check(
            "loss scaling", named.get(scale, f"{scale}, at least 2^{advice['loss_scale']['minimum_log2']}"),
            scale in ("static", "dynamic"), outcome(cells, domain, "paper-no-scaling"), "without it",
        ),
        _check(
            "master weights", need.replace("_", " "), need == "required",
            outcome(cells, domain, "paper-no-master", WHOLE), "without them",
        ),
    ]  # fmt: skip
    sums = advice["accumulation"]
    needed = sums.get("fp32_required", 0)
    checks.append(
        _check(
            "FP32 accumulation", f"required at {needed} of {sum(sums.values())} sums",
            needed > 0, outcome(cells, domain, "paper-fp16-accumulation", WHOLE), "without it",
        )
    )  # fmt: skip
    trained = outcome(cells, domain, "advised")
    if trained is not None:
        right = {"worse": "wrong", "diverged": "wrong", "unknown": "cannot tell"}
        checks.append(
            AdviceCheck(
                "the advised recipe", advice["recipe"]["description"], _told(trained),
                right.get(trained.verdict, "right"),
            )
        )  # fmt: skip
    return checks


def _check(
    what: str, advised: str, is_needed: bool, found: Outcome | None, where: str
) -> AdviceCheck:
    if found is None:
        return AdviceCheck(what, advised, "not run", "cannot tell")
    happened = f"{where}: {_told(found)}"
    if found.verdict == "unknown":
        return AdviceCheck(what, advised, happened, "cannot tell")
    if found.is_harmed:
        return AdviceCheck(what, advised, happened, "right" if is_needed else "wrong")
    right = "cautious: no harm in a run of this length" if is_needed else "right"
    return AdviceCheck(what, advised, happened, right)


def _told(found: Outcome) -> str:
    if found.diverged:
        return f"diverged on {found.diverged} seed{'s' * (found.diverged > 1)}"
    mean, spread = found.judged.mean_difference, found.judged.fp32_range
    if mean is None or spread is None:
        return found.verdict
    return f"{found.verdict} ({mean:+.2g}, spread {spread:.2g})"


def by_name(name: str) -> Domain:
    """The domain of that name."""
    return next(domain for domain in DOMAINS if domain.name == name)
