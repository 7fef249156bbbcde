"""The sample result with everything that an analysis on a GPU holds: sums, memory, speed, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.reports.sample_result import parameter, run, sample_result

VERDICTS = ("fp16_ok", "fp32_advised", "fp32_required")
PARTS = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "saved_tensor_bytes")


def full_result(sites: int = 24) -> dict[str, Any]:
    """Every section of the page has something to show."""
    result = sample_result(sites)
    result["accumulation"] = accumulation([site["name"] for site in result["sites"]])
    result["master_weights"]["parameters"] = [
        {**parameter(index, ()), "name": site["name"], "at_risk": True}
        for index, site in enumerate(result["sites"])
        if site["kind"] == "weight"
    ]
    seeds = [run(order, 200) | {"seed": seed} for seed in (1, 2) for order in (0, 6)]
    for seeded in seeds:
        seeded["losses"] = [value + 0.1 * seeded["seed"] for value in seeded["losses"]]
    result["runs"] = [*result["runs"], *seeds]
    result["memory"] = [memory(use, result["runs"][0]) for use in result["runs"]]
    result["timing"] |= timing([site["name"] for site in result["sites"][::4]])
    return result


def accumulation(names: Sequence[str]) -> dict[str, Any]:
    sums = [one_sum(name, index) for index, name in enumerate(names) if not name.endswith("weight")]
    counts = {verdict: sum(s["verdict"] == verdict for s in sums) for verdict in VERDICTS}
    return {
        "sites": sums, "reason": None, "counts": counts, "skipped": [], "log2_scale": 10,
        "addends": 1000, "probe_ms": 12.0, "probe_plain_steps": 1.5, "fp32_modules": [], "code": "",
    }  # fmt: skip


def one_sum(name: str, index: int) -> dict[str, Any]:
    length = 16 << index % 12
    block = 1 if index % 3 == 2 else 16
    expected = (length / block) ** 0.5 * 2.0**-11
    return {
        "site": name, "operation": "forward", "operator": "addmm", "phase": "forward",
        "family": "product", "length": length, "sampled_length": length, "samples": 64, "calls": 1,
        "block": block, "error_fp16": expected * (1 + index % 5), "errors_fp16_by_block": {},
        "error_fp32": 2e-4, "expected_error": expected, "predicted_error": 2 * expected,
        "worst_error": 1.0, "kappa": 2.0, "peak": 3.0, "swamped_fraction": 0.01 * (index % 3),
        "variance_retention": 0.99, "cancellation": None, "error_native_fp16": None,
        "verdict": VERDICTS[index % 3], "reason": "error of a sum",
    }  # fmt: skip


def memory(use: dict[str, Any], fp32: dict[str, Any]) -> dict[str, Any]:
    parts, base = ({key: run[key] for key in PARTS} for run in (use, fp32))
    total, reference = sum(parts.values()), sum(base.values())
    return {
        "recipe": use["recipe"], "part_bytes": parts, "total_bytes": total,
        "part_ratio": {key: parts[key] / base[key] for key in PARTS},
        "total_ratio": total / reference, "peak_ratio": None,
    }  # fmt: skip


def timing(names: Sequence[str]) -> dict[str, Any]:
    modules = [
        {
            "module": name, "module_type": "Linear", "forward_ms": 1.0 / (index + 1),
            "backward_ms": 2.0 / (index + 1), "share": 0.5 / (index + 1),
            "tensor_cores": ("yes", "no", "unknown")[index % 3], "tensor_core_share": 0.8,
            "advice": "less efficient: 511 is no multiple of 8",
        }
        for index, name in enumerate(names)
    ]  # fmt: skip
    seconds = [0.2 * at for at in range(30)]
    return {
        "clock": "CUDA events", "modules": modules, "modules_reason": None,
        "tensor_cores": {
            "achieved TFLOP/s": 412.0,
            "checks": [{"name": "busy time", "passed": True, "message": "3 ms of 4 ms"}],
        },
        "nvml": {
            "device": "GPU 0",
            "traces": {
                "power": {"unit": "W", "seconds": seconds, "values": [300.0] * 30},
                "SM clock": {"unit": "MHz", "seconds": seconds, "values": [1700.0] * 30},
            },
        },
    }  # fmt: skip
