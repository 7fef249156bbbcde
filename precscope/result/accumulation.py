"""The ``accumulation`` and ``format_choice`` of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from precscope.advice.accumulation import (
    NEEDS,
    SumAdvice,
    at_block,
    fp32_modules_for_fp16_accumulation,
)
from precscope.advice.accumulation_words import accumulation_code
from precscope.advice.format_choice import FormatChoice
from precscope.recording import Recording

NOT_PROBED = "not probed: every recipe but paper-fp16-accumulation accumulates in FP32"

COPIED = (
    "operator",
    "phase",
    "family",
    "length",
    "sampled_length",
    "samples",
    "calls",
    "block",
    "error_fp32",
    "kappa",
    "peak",
    "cancellation",
    "error_native_fp16",
)


def accumulation_entry(recording: Recording, sums: Sequence[SumAdvice]) -> dict[str, Any]:
    """Every probed sum with its verdict, and what the probe cost."""
    document = recording.document("accumulation") or {}
    plain_ms = (recording.document("cost") or {}).get("plain_step_ms")
    probe_ms = document.get("probe_ms")
    return {
        "sites": [_entry(found) for found in sums],
        "reason": None if sums else NOT_PROBED,
        "counts": {need: sum(s.verdict == need for s in sums) for need in NEEDS},
        "log2_scale": document.get("log2_scale"),
        "fp32_modules": list(fp32_modules_for_fp16_accumulation(sums)),
        "code": accumulation_code(sums),
        "skipped": document.get("skipped", []),
        "addends": document.get("addends"),
        "probe_ms": probe_ms,
        "probe_plain_steps": probe_ms / plain_ms if probe_ms and plain_ms else None,
    }


def format_choices(choices: Sequence[FormatChoice]) -> list[dict[str, Any]]:
    """One entry per module, in order of execution."""
    return [asdict(choice) for choice in choices]


def _entry(found: SumAdvice) -> dict[str, Any]:
    facts = found.facts
    return {
        "site": facts["site"],
        "operation": facts["operation"],
        "verdict": found.verdict,
        "reason": found.reason,
        "error_fp16": found.error,
        "expected_error": at_block(facts, "expected_errors"),
        "predicted_error": at_block(facts, "predicted_errors"),
        "worst_error": at_block(facts, "worst_errors"),
        "swamped_fraction": at_block(facts, "swamped"),
        "variance_retention": at_block(facts, "variance_retention"),
        "errors_fp16_by_block": facts["errors_fp16"],
        **{name: facts.get(name) for name in COPIED},
    }
