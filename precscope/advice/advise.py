"""advise: a Recording in, findings, verdicts and a recipe out. Pure; needs no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from precscope.advice.accumulation import SumAdvice, judge_sums
from precscope.advice.accumulation_words import accumulation_findings, accumulation_verdict
from precscope.advice.blame import Break, blame_findings, breaks, observed_steps
from precscope.advice.drift import Drift, drift_of, was_probed
from precscope.advice.drift_findings import drift_findings
from precscope.advice.drift_needs import needs_over_time
from precscope.advice.evidence import Evidence
from precscope.advice.findings import Finding, Verdict, most_severe_first
from precscope.advice.format_choice import FormatChoice, choose_formats
from precscope.advice.half_runs import (
    as_far_as_seen,
    fits_as_far_as_seen,
    half_dtype_of_weights,
)
from precscope.advice.loss_scale import LossScaleAdvice, advise_loss_scale
from precscope.advice.loss_scale_words import loss_scale_findings, loss_scale_verdict
from precscope.advice.master_weights import (
    Need,
    ParameterRetention,
    master_weight_findings,
    master_weight_verdict,
    model_need,
)
from precscope.advice.outcome import (
    broken_promise_first,
    training_findings,
    training_verdict,
)
from precscope.advice.policy import advised_recipe, finite_modules
from precscope.advice.promise import Proof, prove
from precscope.advice.promise_findings import promise_findings
from precscope.advice.range_words import range_verdict
from precscope.advice.ranges import range_findings
from precscope.advice.risk import at_risk
from precscope.advice.script_findings import half_weights_tried, script_findings
from precscope.errors import UsageError
from precscope.recipe import Recipe
from precscope.recording import Recording


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything that follows from a Recording; iterating yields the findings.

    Attributes:
        findings: most severe first.
        verdicts: one sentence for each question, in their order; a broken promise first.
        loss_scale: the loss scale with its evidence.
        master_weights: the strongest need of any FP16 weight.
        retention: update retention of every parameter.
        recipe: what to train with.
        sums: every sum of a training step with the accumulator it needs; empty if not probed.
        formats: FP16, BF16 or FP32 for each module.
        proof: what training with it showed.
        drift: where the needed loss scale is going.
        breaks: steps in which something was not finite, each with its origin.
    """

    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    loss_scale: LossScaleAdvice
    master_weights: Need
    retention: tuple[ParameterRetention, ...]
    recipe: Recipe
    sums: tuple[SumAdvice, ...]
    formats: tuple[FormatChoice, ...]
    proof: Proof
    drift: Drift
    breaks: tuple[Break, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)


def advise(recording: Recording) -> Advice:
    """Judge a Recording: range, loss scale, master weights, and the runs if any were trained.

    Raises:
        UsageError: it is no Recording; a path is opened with ``Recording.open`` first.
    """
    if not isinstance(recording, Recording):
        raise UsageError(
            f"advise takes a Recording, not a {type(recording).__name__}: use Recording.open(path)"
        )
    evidence = Evidence(recording)
    judged = _judged(evidence)
    return Advice(
        findings=tuple(most_severe_first(_findings(evidence, judged))),
        verdicts=_verdicts(evidence, judged),
        loss_scale=judged.loss_scale,
        master_weights=judged.need,
        retention=tuple(evidence.retention),
        recipe=judged.recipe,
        sums=tuple(judged.sums),
        formats=tuple(choose_formats(evidence.sites, evidence.retention, judged.recipe)),
        proof=judged.proof,
        drift=judged.drift,
        breaks=judged.breaks,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    """The answer to each question, before it is put into words."""

    ranges: list[Finding]
    loss_scale: LossScaleAdvice
    need: Need
    sums: Sequence[SumAdvice]
    recipe: Recipe
    runs: list[dict[str, Any]]
    proof: Proof
    drift: Drift
    breaks: tuple[Break, ...]


def _judged(evidence: Evidence) -> _Judged:
    document = evidence.recording.document
    loss_scale = advise_loss_scale(
        evidence.gradients, evidence.headroom(), evidence.headroom_site(), evidence.arbitration()
    )
    loss_scale = as_far_as_seen(loss_scale, evidence.gradients, evidence.recording.steps)
    need = model_need(evidence.retention)
    found = breaks(document("non_finite"))
    harmless = not found and bool(evidence.gradients)
    ranges = most_severe_first(range_findings(evidence.sites_in_order_of_failure, harmless))
    tried = (document("range_probe") or {}).get("fp32_modules", ())
    tried = finite_modules(tried, evidence.sites, harmless)
    runs: list[dict[str, Any]] = document("runs", []) or []
    needs = needs_over_time(evidence, loss_scale.maximum_log2)
    return _Judged(
        ranges=ranges,
        loss_scale=loss_scale,
        need=need,
        sums=judge_sums(document("accumulation")),
        recipe=advised_recipe(ranges, [s for s, _ in evidence.sites], loss_scale, need, tried),
        runs=runs,
        proof=prove(runs, evidence.residual()),
        drift=drift_of(needs, loss_scale, was_probed(evidence.arbitration())),
        breaks=found,
    )


def _findings(evidence: Evidence, judged: _Judged) -> list[Finding]:
    document = evidence.recording.document
    skipped = (document("non_finite") or {}).get("skipped", 0)
    observed = observed_steps(evidence.recording)
    saw_loss = any(step.loss is not None for step in evidence.recording.steps)
    return [
        *blame_findings(judged.breaks, skipped, observed, saw_loss),
        *promise_findings(judged.proof),
        *judged.ranges,
        *loss_scale_findings(judged.loss_scale),
        *master_weight_findings(evidence.retention),
        *accumulation_findings(judged.sums),
        *drift_findings(judged.drift, judged.proof.residual),
        *training_findings(judged.runs, judged.proof),
        *script_findings(document("script")),
    ]


def _half_weights_tried(evidence: Evidence) -> str:
    document = evidence.recording.document
    return half_weights_tried(document("script"), document("runs", []) or [])


def _verdicts(evidence: Evidence, judged: _Judged) -> tuple[Verdict, ...]:
    sites = [site for site, _ in evidence.sites]
    forward = [s for s in sites if s.kind in ("activation", "weight") and at_risk(s)]
    summed = accumulation_verdict(judged.sums)
    return broken_promise_first(
        fits_as_far_as_seen(range_verdict(judged.ranges, len(forward)), forward),
        loss_scale_verdict(judged.loss_scale),
        master_weight_verdict(
            evidence.retention,
            judged.need,
            _half_weights_tried(evidence),
            half_dtype_of_weights(sites),
        ),
        training_verdict(judged.runs, judged.proof),
        *([summed] if summed else []),
    )
