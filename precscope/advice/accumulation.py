"""Accumulation: which sums of a training step need FP32 accumulators?

For each sampled sum, at block size b (16 products at a time on a tensor core, one value after the
other in a reduction or a scatter):

    required  if  2 peak > 65504,  or more than 1 % of the addends' energy is swamped,
              or  Var(s16) / Var(exact) lies outside [0.95, 1.05] where an FP32 sum keeps it inside,
              or  the error is above 0.1,  or above a tenth of what a variance has left
    advised   if  error16 > 4 error32: two bits worse than the FP16 store costs anyway

A gradient error of 0.1 is the level from which a loss scale counts as required, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from precscope.formats import FP16

Need = Literal["fp32_required", "fp32_advised", "fp16_ok"]
NEEDS: tuple[Need, ...] = ("fp32_required", "fp32_advised", "fp16_ok")

SWAMPED_LIMIT = 1e-2
VARIANCE_KEPT = (0.95, 1.05)
ERROR_RATIO = 4.0
HARMFUL_ERROR = 0.1
NATIVE_HARM = 1e-2
"""Error of a real half kernel from which it is reported: below it no harm was seen."""

OUTSIDE_MODULES = ("loss", "(root)")

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SumAdvice:
    """A sum with its verdict.

    Attributes:
        facts: what the probe recorded.
        verdict: what its accumulator has to be.
        reason: why, with the numbers.
    """

    facts: Facts
    verdict: Need
    reason: str

    @property
    def name(self) -> str:
        """``encoder.0.linear1 · weight gradient``."""
        return f"{self.facts['site']} \N{MIDDLE DOT} {self.facts['operation']}"

    @property
    def error(self) -> float | None:
        """Error of FP16 accumulation at the block size of the verdict; None if it overflows."""
        return at_block(self.facts, "errors_fp16")


def at_block(facts: Facts, name: str) -> float | None:
    """A number of the probe at the block size that the verdict is about."""
    value = (facts.get(name) or {}).get(str(facts["block"]))
    return None if value is None else float(value)


def judge_sums(document: Mapping[str, Any] | None) -> list[SumAdvice]:
    """Verdicts on all recorded sums, in order of execution; empty if none was probed."""
    sites = (document or {}).get("sites", [])
    return [SumAdvice(facts, *_judge(facts)) for facts in sites]


def _judge(facts: Facts) -> tuple[Need, str]:
    if facts.get("unmeasured"):
        return "fp16_ok", f"{facts['unmeasured']} in the probed step: nothing to lose"
    if harm := _harm(facts):
        return "fp32_required", harm
    error, floor = at_block(facts, "errors_fp16"), facts["error_fp32"]
    if error is None:
        return "fp32_required", "the sum is not finite in FP16"
    if floor is None:
        return "fp32_advised", "the result leaves FP16 even if the sum is FP32"
    if error > ERROR_RATIO * floor:
        return "fp32_advised", f"error {error:.1e}, {_times(error, floor)} that of an FP32 sum"
    return "fp16_ok", f"error {error:.1e}, an FP32 sum has {floor:.1e}"


def _times(error: float, floor: float) -> str:
    return f"{error / floor:.0f} times" if floor > 0 else "where there is none in"


def _harm(facts: Facts) -> str | None:
    """What makes FP32 necessary, the plainest reason first; None if nothing does."""
    peak, swamped = facts["peak"], at_block(facts, "swamped")
    error = at_block(facts, "errors_fp16")
    if peak is not None and 2 * peak > FP16.max_finite:
        where = "beyond" if FP16.overflows(peak) else "within a doubling of"
        return f"partial sums reach {peak:.3g}, {where} FP16's {FP16.max_finite:.0f}"
    if cancelled := _cancelled(facts, error):
        return cancelled
    if swamped is not None and swamped > SWAMPED_LIMIT:
        return (
            f"{swamped:.1%} of the addends' energy is smaller than half a place of the sum they "
            f"are added to; error {_number(error)}"
        )
    kept, floor = at_block(facts, "variance_retention"), facts["variance_retention_fp32"]
    if kept is not None and floor is not None and _within(floor) and not _within(kept):
        return f"the sums vary {kept:.2f} times as much as they should; error {_number(error)}"
    if error is not None and error > HARMFUL_ERROR:
        return f"error {error:.1e}: another result"
    return None


def _cancelled(facts: Facts, error: float | None) -> str | None:
    factor = facts.get("cancellation")
    if factor is None or error is None or error * factor <= HARMFUL_ERROR or factor < 2:
        return None
    return (
        f"the mean of squares is {factor:.3g} times the variance that is left of it: an error of "
        f"{error:.1e} is {error * factor:.2g} of the variance"
    )


def _within(retention: float) -> bool:
    return VARIANCE_KEPT[0] <= retention <= VARIANCE_KEPT[1]


def _number(error: float | None) -> str:
    return "without bound" if error is None else f"{error:.1e}"


def worst_first(sums: Sequence[SumAdvice]) -> list[SumAdvice]:
    """By verdict, then by error; a sum that overflows has the largest.

    The gradient norm comes last of its verdict: a training that clips nothing never adds it up.
    """

    def rank(found: SumAdvice) -> tuple[int, bool, float]:
        error = found.error if found.error is not None else float("inf")
        return NEEDS.index(found.verdict), found.facts["operator"] == "norm", -error

    return sorted(sums, key=rank)


def native_harm(sums: Sequence[SumAdvice]) -> list[SumAdvice]:
    """Sums that a half kernel of this machine really gets wrong, the worst first."""
    found = [s for s in sums if (s.facts.get("error_native_fp16") or 0.0) > NATIVE_HARM]
    return sorted(found, key=lambda s: -float(s.facts["error_native_fp16"]))


def fp32_modules_for_fp16_accumulation(sums: Sequence[SumAdvice]) -> tuple[str, ...]:
    """Modules that have to run in FP32 if accumulators are FP16, in order of execution.

    Those with a required sum that half precision would compute: products, scatters and bias
    gradients. Statistics, softmax and losses are float32 operators under autocast as it is.
    """
    names = [
        str(s.facts["site"])
        for s in sums
        if s.verdict == "fp32_required" and _runs_in_half(s.facts)
    ]
    return tuple(dict.fromkeys(n for n in names if n not in OUTSIDE_MODULES))


def _runs_in_half(facts: Facts) -> bool:
    return str(facts["family"]) != "reduction" or str(facts["operator"]) == "sum"
