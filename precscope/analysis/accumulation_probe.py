"""The loss scale at which the accumulation probe of an analysis rounds gradients."""

from __future__ import annotations

from precscope.advice.arbiter import Arbitration
from precscope.advice.evidence import Evidence
from precscope.advice.loss_scale import judge_loss_scale


def probe_log2_scale(evidence: Evidence, arbitration: Arbitration | None) -> int:
    """The loss scale that the evidence so far recommends, log2.

    Where none is needed, the middle of the safe window: what a sum loses must not be confused with
    gradients that are merely small. Where no single scale works, the largest safe one.
    """
    room, site = evidence.headroom(), evidence.headroom_site()
    advice = judge_loss_scale(evidence.gradients, room, site, arbitration)
    top = advice.maximum_log2 or 0
    if advice.verdict == "impossible":
        return top
    return advice.recommended_log2 or max(0, top) // 2
