"""build_result: a Recording as the JSON result. A function of the Recording and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite, log2
from typing import Any

from precscope.advice import Advice, advise
from precscope.advice.arbiter import FLOOR_FACTOR, HARMLESS_ERROR, Arbitration
from precscope.advice.evidence import Evidence
from precscope.advice.half_runs import half_dtype_of_weights
from precscope.advice.master_weights import ALTERNATIVES, ParameterRetention
from precscope.recording import Recording
from precscope.result.accumulation import accumulation_entry, format_choices
from precscope.result.definitions import definitions
from precscope.result.proof import proof_entries, sweep_entry
from precscope.result.sites import site_entries
from precscope.training.memory_table import memory_table

SCHEMA = 1

NO_ENVIRONMENT: dict[str, Any] = dict.fromkeys(
    (
        "precscope",
        "python",
        "torch",
        "numpy",
        "device",
        "device_name",
        "threads",
        "platform",
        "created",
        "command",
        "seed",
        "target_format",
    )
)

NO_COVERAGE: dict[str, Any] = {
    "modules_seen": 0,
    "modules_not_seen": [],
    "tensors_skipped": [],
    "observer_errors": [],
    "observed_steps": 0,
    "sites": 0,
}


def build_result(recording: Recording) -> dict[str, Any]:
    """The result of schema 1, documented in ``docs/json.md``. Holds no NaN and no infinity."""
    advice = advise(recording)
    result: dict[str, Any] = finite_or_none(_sections(recording, advice))
    return result


def finite_or_none(value: Any) -> Any:
    """The same JSON value with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(item) for item in value]
    return value


def _sections(recording: Recording, advice: Advice) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "title": recording.meta.get("title", "training"),
        "environment": {**NO_ENVIRONMENT, **recording.document("environment", {})},
        "coverage": recording.document("coverage", NO_COVERAGE),
        "definitions": definitions(),
        "findings": [asdict(finding) for finding in advice.findings],
        "verdicts": [asdict(verdict) for verdict in advice.verdicts],
        "loss_scale": _loss_scale(recording, advice),
        "master_weights": _master_weights(recording, advice),
        "accumulation": accumulation_entry(recording, advice.sums),
        "format_choice": format_choices(advice.formats),
        "non_finite": [asdict(found) for found in advice.breaks],
        "sites": site_entries(recording),
        "runs": recording.document("runs", []),
        "memory": [asdict(use) for use in memory_table(recording.document("runs", []))],
        **proof_entries(recording, advice.proof, advice.drift),
        "scale_sweep": sweep_entry(recording),
        "timing": _timing(recording),
        "recipe": {**advice.recipe.to_dict(), "code": advice.recipe.code()},
    }


def _loss_scale(recording: Recording, advice: Advice) -> dict[str, Any]:
    found = advice.loss_scale
    arbitration = Evidence(recording).arbitration()
    recommended = found.recommended_log2
    return {
        "verdict": found.verdict,
        "minimum_log2": found.minimum_log2,
        "maximum_log2": found.maximum_log2,
        "recommended": None if recommended is None else 2.0**recommended,
        "recommended_log2": recommended,
        "limiting_sites": {"minimum": found.minimum_site, "maximum": found.maximum_site},
        "screen_minimum_log2": found.screen_minimum_log2,
        "gradient_error_floor": None if arbitration is None else arbitration.floor,
        "gradient_error_threshold": _threshold(arbitration),
        "probe_batches": 0 if arbitration is None else arbitration.batches,
        "reason": found.reason,
        "curve": _curve(advice, arbitration),
        "amax_trend": [
            {"step": s.step, "log2_amax": log2(s.gradient_amax)}
            for s in recording.steps
            if s.gradient_amax > 0.0 and isfinite(s.gradient_amax)
        ],
    }


def _threshold(arbitration: Arbitration | None) -> float | None:
    if arbitration is None or arbitration.floor is None:
        return None
    return max(FLOOR_FACTOR * arbitration.floor, HARMLESS_ERROR)


def _curve(advice: Advice, arbitration: Arbitration | None) -> list[dict[str, Any]]:
    errors = {p.log2_scale: p for p in arbitration.points} if arbitration else {}
    curve = []
    for point in advice.loss_scale.curve:
        error = errors.get(point.log2_scale)
        curve.append(
            {
                "log2_scale": point.log2_scale,
                "l1_lost": point.l1_lost,
                "count_lost": point.count_lost,
                "overflow": point.overflow,
                "gradient_error": error.error if error else None,
                "worst_parameter": error.parameter if error else None,
            }
        )
    return curve


def _master_weights(recording: Recording, advice: Advice) -> dict[str, Any]:
    stored_in = half_dtype_of_weights(recording.sites)
    unseen = f"the weights are {stored_in} already: what that swallows cannot be seen"
    reason = {
        "required": "FP16 weights would swallow or overshoot the updates of at least one parameter",
        "advised": "updates survive now, and would not at a 10 to 100 times smaller learning rate",
        "not_needed": "FP16 weights keep the updates, also at a hundredth of the learning rate",
        "unknown": unseen
        if stored_in
        else "no update of a parameter that FP16 stores in half was observed",
    }[advice.master_weights]
    return {
        "verdict": advice.master_weights,
        "reason": reason,
        "parameters": [_parameter(p) for p in advice.retention],
        "alternatives": list(ALTERNATIVES),
    }


def _parameter(parameter: ParameterRetention) -> dict[str, Any]:
    return asdict(parameter)


def _timing(recording: Recording) -> dict[str, Any]:
    cost = recording.document("cost")
    device = str(recording.document("environment", {}).get("device", "cpu"))
    gpu_only = "no CUDA device in this run" if not device.startswith("cuda") else "not measured"
    return {
        "clock": "perf_counter",
        "modules": [],
        "modules_reason": "modules were not timed in this run",
        "tensor_cores": None,
        "tensor_cores_reason": gpu_only,
        "nvml": None,
        "nvml_reason": gpu_only,
        "overhead_ratio": None,
        "plain_step_ms": None,
        "observed_step_ms": None,
        "observer_memory_bytes": None,
        "overhead_reason": None if cost else "not measured in this run",
        "probe_seconds": recording.document("probe_seconds"),
        **(cost or {}),
        **(recording.document("timing") or {}),
    }
