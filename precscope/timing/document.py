"""The timing document: what a Measurement says, as the JSON result has it (``docs/gpu.md``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from precscope.timing.attribution import ModuleKernels, by_module
from precscope.timing.checks import cross_checks
from precscope.timing.comparing import compare
from precscope.timing.flops import achieved_tflops
from precscope.timing.identify import NO_CUDA
from precscope.timing.kernel_rules import RULES_VERSION
from precscope.timing.measure import Measurement
from precscope.timing.peaks import PEAKS_VERSION, peak_of
from precscope.timing.profiling import Profiled
from precscope.timing.spans import ModuleTime, StepTimes
from precscope.timing.steps import Block, spread

RATES = ("achieved_tflops", "mfu_percent", "mfu_at_clock_percent")
"""Of each recipe; the table of recipes shows them beside each other."""


def timing_document(found: Measurement, subject: str, arithmetic: str) -> dict[str, Any]:
    """The document.

    Args:
        found: what was measured.
        subject: name of the recipe that modules, tensor cores and NVML are about.
        arithmetic: of its products: ``fp16``, ``bf16``, ``tf32`` or ``fp32``.
    """
    tensor_cores = _tensor_cores(found, subject, arithmetic)
    nvml = _nvml(found, subject)
    modules = module_entries(found, subject)
    return {
        "clock": found.clock,
        "recipe": subject,
        "device": found.device.to_dict() if found.device else None,
        "device_reason": None if found.device else NO_CUDA,
        "modules": modules,
        "modules_reason": None if modules else found.reasons.get("modules", "no module was called"),
        "module_step_ms": _median(step.total_ms for step in found.module_steps),
        "module_gap_ms": _median(step.gap_ms for step in found.module_steps),
        "tensor_cores": tensor_cores,
        "tensor_cores_reason": None if tensor_cores else _why(found, "kernels"),
        "nvml": nvml,
        "nvml_reason": None if nvml else _why(found, "nvml"),
        "recipes": [recipe_entry(found, name) for name in found.blocks],
        "reasons": found.reasons,
        "rules_version": RULES_VERSION,
        "peaks_version": PEAKS_VERSION,
    }


def _why(found: Measurement, what: str) -> str:
    """Why a part is missing: itself, or because the subject was not timed."""
    return found.reasons.get(what) or found.reasons.get("blocks") or NO_CUDA


def module_entries(found: Measurement, subject: str) -> list[dict[str, Any]]:
    """One record per module that was called, in the order of ``named_modules``."""
    profiled = found.profiled.get(subject)
    kernels = by_module(profiled.kernels) if profiled else {}
    called = {name for step in found.module_steps for name in step.modules}
    step_ms = _median(step.total_ms for step in found.module_steps)
    return [
        {
            "module": name,
            "module_type": kind,
            **_times(found.module_steps, name, step_ms),
            "flops": found.flops.modules.get(name) if found.flops else None,
            **_kernels(kernels.get(name), profiled),
        }
        for name, kind in found.types.items()
        if name in called
    ]


def _times(steps: Sequence[StepTimes], name: str, step_ms: float | None) -> dict[str, Any]:
    seen = [step.modules[name] for step in steps if name in step.modules]
    forward, backward = _of(seen, "forward_ms"), _of(seen, "backward_ms")
    known = [part for part in (forward, backward) if part is not None]
    total = sum(known) if known else None
    return {
        "forward_ms": forward,
        "backward_ms": backward,
        "total_ms": total,
        "self_ms": _of(seen, "self_ms"),
        "recomputed_ms": _of(seen, "recomputed_ms"),
        "calls": seen[-1].calls,
        "share": total / step_ms if total is not None and step_ms else None,
    }


def _of(seen: Sequence[ModuleTime], key: str) -> float | None:
    return _median(v for time in seen if (v := getattr(time, key)) is not None)


def _median(values: Any) -> float | None:
    found = list(values)
    return float(median(found)) if found else None


def _kernels(own: ModuleKernels | None, profiled: Profiled | None) -> dict[str, Any]:
    """The kernels of a module itself, those of the modules inside it left out."""
    if own is None or profiled is None:
        empty = ("kernel_ms", "tensor_cores", "tensor_core_share", "rule", "eligible", "used")
        return {**dict.fromkeys(empty), "unknown_share": None, "advice": None}
    return {
        "kernel_ms": own.busy_us / 1e3 / profiled.steps,
        "tensor_cores": own.tensor_cores,
        "tensor_core_share": own.time_us["yes"] / own.busy_us if own.busy_us else None,
        "unknown_share": own.time_us["unknown"] / own.busy_us if own.busy_us else None,
        "rule": own.rule,
        "eligible": own.eligible_us > 0,
        "used": own.used_us / own.eligible_us if own.eligible_us else None,
        "advice": "; ".join(own.advice) or None,
    }


def class_times_ms(profiled: Profiled) -> dict[str, float]:
    """Kernel time per step by class, and that of eligible operators."""
    totals = {"yes": 0.0, "no": 0.0, "unknown": 0.0, "eligible": 0.0, "used": 0.0}
    for module in by_module(profiled.kernels).values():
        for answer, time_us in module.time_us.items():
            totals[answer] += time_us
        totals["eligible"] += module.eligible_us
        totals["used"] += module.used_us
    return {name: time_us / 1e3 / profiled.steps for name, time_us in totals.items()}


def recipe_entry(found: Measurement, name: str) -> dict[str, Any]:
    """One recipe's step time beside FP32 and TF32, its memory, tensor-core share and energy."""
    blocks = found.blocks[name]
    profiled = found.profiled.get(name)
    times = class_times_ms(profiled) if profiled else {}
    kernel_ms = sum(times[k] for k in ("yes", "no", "unknown")) if times else 0.0
    step_ms = spread(tuple(ms for block in blocks for ms in block.step_ms))
    rates = rate_entries(found, name, found.arithmetic.get(name, "fp32"), step_ms["median"])
    return {
        "recipe": name,
        "step_ms": step_ms,
        "blocks_ms": [block.median_ms for block in blocks],
        "sm_clock_mhz": _median(b.sm_clock_mhz for b in blocks if b.sm_clock_mhz is not None),
        **{key: rates[key] for key in RATES},
        "peak_memory_bytes": found.peak_memory_bytes.get(name),
        "energy_per_step_j": _nvml_median(blocks, "energy_per_step_j"),
        "any_tensor_util_percent": _nvml_median(blocks, "any_tensor_util_percent"),
        "sm_util_percent": _nvml_median(blocks, "sm_util_percent"),
        "tensor_core_share": times["yes"] / kernel_ms if kernel_ms else None,
        "unknown_share": times["unknown"] / kernel_ms if kernel_ms else None,
        "eligible_share": times["eligible"] / kernel_ms if kernel_ms else None,
        "used_share": times["used"] / times["eligible"] if times.get("eligible") else None,
        "busy_ms": profiled.busy_ms if profiled else None,
        "beside": [
            asdict(compare(found.blocks, name, base))
            for base in ("fp32", "tf32")
            if base in found.blocks and base != name
        ],
    }


def _nvml_median(blocks: Sequence[Block], key: str) -> float | None:
    values = [(block.nvml or {}).get(key) for block in blocks]
    return _median(value for value in values if value is not None)


def _nvml(found: Measurement, subject: str) -> dict[str, Any] | None:
    """The longest window of the subject."""
    blocks = [block for block in found.blocks.get(subject, []) if block.nvml is not None]
    return max(blocks, key=lambda block: block.window_s).nvml if blocks else None


def _tensor_cores(found: Measurement, subject: str, arithmetic: str) -> dict[str, Any] | None:
    """Rates, shares and cross-checks of the subject; None without kernels and without a device."""
    blocks, profiled = found.blocks.get(subject), found.profiled.get(subject)
    if found.device is None or not blocks:
        return None
    times = class_times_ms(profiled) if profiled else None
    step_ms = spread(tuple(ms for block in blocks for ms in block.step_ms))["median"]
    rates = rate_entries(found, subject, arithmetic, step_ms)
    nvml = _nvml(found, subject)
    checks = cross_checks(
        times["yes"] if times else None,
        profiled.busy_ms if profiled else None,
        step_ms,
        None if arithmetic == "fp32" else rates["mfu_at_clock_percent"],
        nvml,
    )
    return {
        "step_ms": step_ms,
        **rates,
        "busy_ms": profiled.busy_ms if profiled else None,
        "gap_ms": max(0.0, step_ms - profiled.busy_ms) if profiled else None,
        "tensor_core_ms": times["yes"] if times else None,
        "other_kernel_ms": times["no"] if times else None,
        "unknown_kernel_ms": times["unknown"] if times else None,
        "eligible_ms": times["eligible"] if times else None,
        "used_ms": times["used"] if times else None,
        "pipe_time_ms": _pipe_ms(nvml, step_ms),
        "checks": [check.to_dict() for check in checks],
    }


def _pipe_ms(nvml: Mapping[str, Any] | None, step_ms: float) -> float | None:
    """SM-averaged time of the tensor pipes in a step; not wall-clock time of anything."""
    share = (nvml or {}).get("any_tensor_util_percent")
    return None if share is None else share / 100 * step_ms


def rate_entries(
    found: Measurement, subject: str, arithmetic: str, step_ms: float
) -> dict[str, Any]:
    """Achieved rate, and beside the peak of the sheet and that at the measured clock."""
    entries: dict[str, Any] = dict.fromkeys((*RATES, "peak_tflops", "peak_source"))
    if found.flops is None or found.device is None or not found.flops.total:
        return entries
    achieved = achieved_tflops(found.flops.total, step_ms)
    entries["achieved_tflops"] = achieved
    peak = peak_of(found.device.name)
    if peak is None:
        return entries
    clocks = [b.sm_clock_mhz for b in found.blocks[subject] if b.sm_clock_mhz is not None]
    sheet = peak.tflops(arithmetic)
    entries |= {"peak_tflops": sheet, "peak_source": peak.source}
    if sheet:
        entries["mfu_percent"] = 100 * achieved / sheet
    if clocks:
        at_clock = peak.tflops_at(arithmetic, float(median(clocks)), found.device.sm_count)
        entries["mfu_at_clock_percent"] = 100 * achieved / at_clock if at_clock else None
    return entries
