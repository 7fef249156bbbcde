"""What to do where the advised recipe did not train like FP32."""

from __future__ import annotations

from collections.abc import Sequence

from precscope.advice.breaches import Breach, told
from precscope.advice.findings import Evidence, Finding
from precscope.advice.parity import ADVISED, Comparison
from precscope.advice.promise import Proof


def promise_findings(proof: Proof) -> list[Finding]:
    """One finding if the promise was broken, with all its numbers, and one per metric behind."""
    metrics = [_metric_behind(metric, bool(proof.breaches)) for metric in _metrics_behind(proof)]
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
    return "stay with FP32 for now; observe ten times as many steps (--steps) and analyze again"


def _metrics_behind(proof: Proof) -> list[Comparison]:
    found = proof.parity
    if found is None or found.recipe != ADVISED:
        return []
    return [metric for metric in found.metrics if metric.verdict == "worse"]


def _metric_behind(metric: Comparison, is_broken: bool) -> Finding:
    return Finding(
        "metric_behind",
        "warning",
        None,
        f"{metric.name} of the advised recipe is {metric.reason}",
        "as for the broken promise"
        if is_broken
        else "train longer and on more seeds before trusting the recipe: --recipe-steps, --seeds",
        "",
        {"mean_difference": metric.mean_difference, "fp32_range": metric.fp32_range},
    )
