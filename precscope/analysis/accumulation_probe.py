"""The accumulation probe in an analysis: when it runs, and at which loss scale."""

from __future__ import annotations

from typing import Any

from precscope.advice.evidence import Evidence
from precscope.advice.loss_scale import judge_loss_scale
from precscope.probes.accumulation import measure_accumulation
from precscope.recording import Recording
from precscope.workload import Session


def probe_log2_scale(recording: Recording) -> int:
    """The loss scale that the recording so far recommends, log2.

    Where none is needed, the middle of the safe window: what a sum loses must not be confused with
    gradients that are merely small. Where no single scale works, the largest safe one.
    """
    evidence = Evidence(recording)
    advice = judge_loss_scale(
        evidence.gradients, evidence.headroom(), evidence.headroom_site(), evidence.arbitration()
    )
    top = advice.maximum_log2 or 0
    if advice.verdict == "impossible":
        return top
    return advice.recommended_log2 or max(0, top) // 2


def probe_accumulation(session: Session, batch: Any, recording: Recording) -> dict[str, Any]:
    """Measure every sum of one FP32 training step on ``batch``; the session is left unchanged."""
    return measure_accumulation(
        session.model, lambda: session.loss(batch), probe_log2_scale(recording)
    )
