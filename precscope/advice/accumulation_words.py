"""Accumulation in words: one verdict, and findings for the sums that are worst off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from precscope.advice.accumulation import (
    SumAdvice,
    at_block,
    fp32_modules_for_fp16_accumulation,
    native_harm,
    worst_first,
)
from precscope.advice.findings import Finding, Severity, Verdict

SHOWN = 3
"""Findings for one verdict; the rest is in the table."""

REMEDIES: Final = {
    "product": (
        "keep FP32 accumulators: leave allow_fp16_accumulation off",
        "torch.backends.cuda.matmul.allow_fp16_accumulation = False",
    ),
    "reduction": (
        "add it up in FP32, as autocast does for statistics, softmax and losses",
        "total = x.sum(dtype=torch.float32)",
    ),
    "scatter": (
        "add it up in FP32: keep the tensor that receives the values in float32",
        "total = torch.zeros(shape).index_add_(0, index, values.float())",
    ),
}
"""What to do about a sum, in words and in code."""


def accumulation_verdict(sums: Sequence[SumAdvice]) -> Verdict | None:
    """One sentence: where does FP16 swallow the sum? None if nothing was probed."""
    if not sums:
        return None
    native = native_harm(sums)
    severity: Severity = "warning" if native else "ok"
    sentence = _sentence(sums)
    if native:
        worst = native[0]
        sentence += (
            f" {worst.facts['operator']} really adds in half on this device: {worst.name} is off "
            f"by {float(worst.facts['error_native_fp16']):.1%}."
        )
    elif any(s.verdict == "fp32_required" for s in sums):
        severity = "advice"
    return Verdict("accumulation", severity, sentence, accumulation_code(sums))


def _sentence(sums: Sequence[SumAdvice]) -> str:
    required = [s for s in sums if s.verdict == "fp32_required"]
    advised = [s for s in sums if s.verdict == "fp32_advised"]
    if required:
        worst = worst_first(required)[0]
        verb = "needs" if len(required) == 1 else "need"
        return (
            f"{len(required)} of {_sums(len(sums))} {verb} FP32 accumulators, {len(advised)} more "
            f"would do better with them; worst is {worst.name} over {worst.facts['length']:,} terms: "
            f"{worst.reason}. Every recipe here but paper-fp16-accumulation has them."
        )
    if advised:
        worst = worst_first(advised)[0]
        return (
            f"No sum needs FP32 accumulators; {len(advised)} of {len(sums)} "
            f"{'loses' if len(advised) == 1 else 'lose'} two bits or more "
            f"without them, most {worst.name} over {worst.facts['length']:,} terms: {worst.reason}."
        )
    if len(sums) == 1:
        return "FP16 accumulators would do: the only sum does not lose two bits to them."
    return f"FP16 accumulators would do: none of {len(sums)} sums loses two bits to them."


def _sums(count: int) -> str:
    return "1 sum" if count == 1 else f"{count} sums"


def accumulation_code(sums: Sequence[SumAdvice]) -> str:
    """The policy for FP16 accumulators; empty where it keeps no module in FP32."""
    modules = fp32_modules_for_fp16_accumulation(sums)
    if not modules:
        return ""
    names = ", ".join(f'"{name}"' for name in modules)
    return (
        "# only for hardware on which FP16 accumulators pay\n"
        f'recipe = precscope.Recipe.named("paper-fp16-accumulation").keeping_fp32({names})'
    )


def accumulation_findings(sums: Sequence[SumAdvice]) -> list[Finding]:
    """The sums that a half kernel gets wrong here, and those that FP16 accumulators would."""
    ordered = worst_first(sums)
    found = [_native(s) for s in native_harm(sums)[:SHOWN]]
    required = [s for s in ordered if s.verdict == "fp32_required"]
    advised = [s for s in ordered if s.verdict == "fp32_advised"]
    found += [_emulated(s, "fp32_accumulation_required") for s in required[:SHOWN]]
    found += [_emulated(s, "fp32_accumulation_advised") for s in advised[:1]]
    return found


def _emulated(found: SumAdvice, rule: str) -> Finding:
    block = found.facts["block"]
    kind = "one value at a time" if block == 1 else f"{block} products at a time"
    return Finding(
        rule,
        "advice",
        found.name,
        f"{found.name} adds {found.facts['length']:,} terms; in FP16, {kind}: {found.reason}",
        *REMEDIES[found.facts["family"]],
        _numbers(found),
    )


def _native(found: SumAdvice) -> Finding:
    error = float(found.facts["error_native_fp16"])
    return Finding(
        "native_fp16_accumulation",
        "warning",
        found.name,
        f"{found.name}: the half kernel of {found.facts['operator']} adds "
        f"{found.facts['length']:,} terms in FP16 on this device; its result is off by {error:.1%}",
        "keep this module's gradient in FP32, as autocast with float32 weights does, or train with "
        "precscope.MixedPrecision, which adds it in float32",
        f'recipe = precscope.Recipe.named("fp16").keeping_fp32("{found.facts["site"]}")',
        _numbers(found),
    )


def _numbers(found: SumAdvice) -> dict[str, float | str | None]:
    facts = found.facts
    return {
        "length": facts["length"],
        "error_fp16": found.error,
        "error_fp32": facts["error_fp32"],
        "expected_error": at_block(facts, "expected_errors"),
        "predicted_error": at_block(facts, "predicted_errors"),
        "peak": facts["peak"],
        "swamped": at_block(facts, "swamped"),
        "error_native_fp16": facts.get("error_native_fp16"),
    }
