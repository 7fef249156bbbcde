"""Recordings of a run that was in half precision already: what they cannot tell.

What FP16 flushes is a zero like any other by the time it is observed. A loss scale keeps it above
the threshold and is taken off again in the counts, so only gradients without one are in doubt. BF16
has FP32's exponents and flushes nothing that FP16 would keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from precscope.advice.findings import Verdict
from precscope.advice.loss_scale import LossScaleAdvice
from precscope.advice.risk import HALF_DTYPES
from precscope.advice.screen import GradientSite
from precscope.facts import Site, StepRecord

UNSEEN_GRADIENTS = (
    "the gradients were observed in float16 without a loss scale, and what that flushed cannot be "
    "counted any more"
)
UNSEEN_VALUES = " What float16 flushed in this very run cannot be counted: observe it in FP32."


def half_dtype_of_weights(sites: Iterable[Site]) -> str:
    """The half dtype that the first such weight was observed in; "" if none was."""
    found = (s.dtype for s in sites if s.kind == "weight" and s.dtype in HALF_DTYPES)
    return next(found, "")


def as_far_as_seen(
    advice: LossScaleAdvice, gradients: Sequence[GradientSite], steps: Sequence[StepRecord]
) -> LossScaleAdvice:
    """The advice; ``unknown`` where none seems needed only because nothing else was left to see.

    Args:
        advice: by the gradients as observed.
        gradients: the sites that it was judged by.
        steps: the observed steps, with their loss scales.
    """
    in_half = any(site.dtype == "float16" for site, _ in gradients)
    scaled = any(step.log2_scale > 0.0 for step in steps)
    if advice.verdict != "not_needed" or not in_half or scaled:
        return advice
    return replace(advice, verdict="unknown", recommended_log2=None, reason=UNSEEN_GRADIENTS)


def fits_as_far_as_seen(verdict: Verdict, sites: Iterable[Site]) -> Verdict:
    """The verdict on the range; advice to look again where values were float16 before."""
    in_half = any(s.dtype == "float16" for s in sites)
    if verdict.severity != "ok" or not in_half:
        return verdict
    return replace(verdict, severity="advice", sentence=verdict.sentence + UNSEEN_VALUES)
