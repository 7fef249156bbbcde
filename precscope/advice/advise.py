"""advise: a Recording in, findings, verdicts and a recipe out. Pure; needs no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from precscope.advice.evidence import Evidence
from precscope.advice.findings import Finding, Verdict, most_severe_first
from precscope.advice.loss_scale import LossScaleAdvice, advise_loss_scale
from precscope.advice.loss_scale_words import loss_scale_findings, loss_scale_verdict
from precscope.advice.master_weights import (
    Need,
    ParameterRetention,
    master_weight_findings,
    master_weight_verdict,
    model_need,
)
from precscope.advice.outcome import training_findings, training_verdict
from precscope.advice.policy import advised_recipe
from precscope.advice.ranges import range_findings, range_verdict
from precscope.advice.risk import at_risk
from precscope.recipe import Recipe
from precscope.recording import Recording


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything that follows from a Recording; iterating yields the findings.

    Attributes:
        findings: most severe first.
        verdicts: one sentence for each of the four questions, in their order.
        loss_scale: the loss scale with its evidence.
        master_weights: the strongest need of any FP16 weight.
        retention: update retention of every parameter.
        recipe: what to train with.
    """

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    loss_scale: LossScaleAdvice
    master_weights: Need
    retention: tuple[ParameterRetention, ...]
    recipe: Recipe

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)


def advise(recording: Recording) -> Advice:
    """Judge a Recording: range, loss scale, master weights, and the runs if any were trained."""
    evidence = Evidence(recording)
    loss_scale = advise_loss_scale(
        evidence.gradients, evidence.headroom(), evidence.headroom_site(), evidence.arbitration()
    )
    retention = evidence.retention
    need = model_need(retention)
    ranges = most_severe_first(range_findings(evidence.sites))
    runs: list[dict[str, Any]] = recording.document("runs", []) or []
    forward = [s for s, _ in evidence.sites if s.kind in ("activation", "weight") and at_risk(s)]
    findings = (
        ranges
        + loss_scale_findings(loss_scale)
        + master_weight_findings(retention)
        + training_findings(runs)
    )
    return Advice(
        findings=tuple(most_severe_first(findings)),
        verdicts=(
            range_verdict(ranges, len(forward)),
            loss_scale_verdict(loss_scale),
            master_weight_verdict(retention, need),
            training_verdict(runs),
        ),
        loss_scale=loss_scale,
        master_weights=need,
        retention=tuple(retention),
        recipe=advised_recipe(ranges, [s for s, _ in evidence.sites], loss_scale, need),
    )
