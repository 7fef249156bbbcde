"""Plausible results of schema 1, built by formula: the same arguments give the same dict."""

from __future__ import annotations

import math
from typing import Any

KINDS = ("activation", "activation_gradient", "weight", "weight_gradient")
HOSTILE_NAMES = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"quoted\" & 'single' <b>bold</b>",
    "🧠.layer.🔥",
    "a" * 300,
    "{{script}}",
    "<a href='javascript:alert(1)'>x</a> %{x} $x^2$",
    "right\u202eto-left\u2028line\u0000null\ud800lone",
    "__proto__",
    "]]> --> <!-- <style>*{display:none}</style>",
)


def sample_result(sites: int = 24, *, hostile: bool = False) -> dict[str, Any]:
    """A result with ``sites`` sites; with ``hostile`` every name in it is out to do harm."""
    names = HOSTILE_NAMES if hostile else ()
    built = [site(index, sites, names) for index in range(sites)]
    parameters = [parameter(index, names) for index in range(max(1, sites // 4))]
    title = HOSTILE_NAMES[0] if hostile else "digits_cnn"
    worst = built[1]["name"] if sites > 1 else None
    return {
        "schema": 1,
        "title": title,
        "environment": environment(title),
        "coverage": coverage(sites, title),
        "definitions": definitions(),
        "findings": findings(worst),
        "verdicts": verdicts(),
        "loss_scale": loss_scale(worst),
        "master_weights": {
            "verdict": "required",
            "reason": "18 of 24 parameters keep less than 80 % of their updates in FP16.",
            "parameters": parameters,
            "alternatives": ["BF16 weights with FP32 master weights", "a learning rate above 1e-2"],
        },
        "accumulation": {"sites": [], "reason": "Sums are not sampled in this analysis."},
        "sites": built,
        "runs": runs(),
        "timing": timing(),
        "recipe": {
            "name": "advised",
            "code": 'trainer = MixedPrecision(model, optimizer, "paper")',
        },
    }


def empty_result() -> dict[str, Any]:
    """No sites, no runs, no curve, no parameters, no findings: every list is empty."""
    result = sample_result(0)
    result["findings"], result["runs"], result["definitions"] = [], [], []
    result["loss_scale"].update(
        verdict="unknown",
        minimum_log2=None,
        maximum_log2=None,
        recommended=None,
        recommended_log2=None,
        screen_minimum_log2=None,
        gradient_error_floor=None,
        gradient_error_threshold=None,
        limiting_sites={"minimum": None, "maximum": None},
        probe_batches=0,
        reason="No gradient was seen.",
        curve=[],
        amax_trend=[],
    )
    result["master_weights"].update(verdict="unknown", parameters=[], alternatives=[])
    result["recipe"]["code"] = ""
    return result


def site(index: int, total: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Site ``index``: gradients shrink with depth, every seventh activation is mostly zeros."""
    kind = KINDS[index % 4]
    module = f"encoder.layers.{index // 8}.{('attention.proj', 'mlp.fc1')[index // 4 % 2]}"
    centre = {"activation": -1.0, "weight": -5.0}.get(kind, -15.0 - 9 * index / max(1, total))
    counts = [int(4e6 * math.exp(-(((e - 21) / 4.5) ** 2))) for e in range(43)]
    first = round(centre) - 21
    zeros = sum(counts) if kind == "activation" and index % 7 == 0 else 12 * index
    shares = fp16_shares(first, counts)
    name = names[index % len(names)] if names else module + (".weight" if "weight" in kind else "")
    return {
        "name": name,
        "kind": kind,
        "module_type": names[0] if names else "Linear",
        "shape": [64, 512],
        "dtype": "float32",
        "autocast_dtype": "float16" if index % 5 else "float32",
        "at_risk": bool(index % 5),
        "observations": 20,
        "histogram": {
            "first_exponent": first,
            "counts": counts,
            "powers": [count // 1000 for count in counts],
            "zeros": zeros,
            "infinities": 3 if index == 6 else 0,
            "nans": 0,
        },
        "amax": 2.0 ** (first + 42.4),
        "rms": 2.0 ** (first + 22.0),
        "zero_fraction": zeros / (zeros + sum(counts)),
        **shares,
        "windows": [window(step, first, shares) for step in range(8)],
    }


def fp16_shares(first: int, counts: list[int]) -> dict[str, float]:
    """Shares of a histogram in FP16, octave by octave."""
    total = sum(counts)
    masses = [count * 2.0 ** (first + i) for i, count in enumerate(counts)]

    def between(low: int, high: int) -> float:
        return sum(c for i, c in enumerate(counts) if low <= first + i < high) / total

    lost = sum(mass for i, mass in enumerate(masses) if first + i < -25)
    return {
        "flushed_fp16": between(-999, -25),
        "subnormal_fp16": between(-25, -14),
        "overflow_fp16": between(16, 999),
        "l1_flushed_fp16": lost / sum(masses),
    }


def window(index: int, first: int, shares: dict[str, float]) -> dict[str, Any]:
    fade = 1 - 0.06 * index
    return {
        "first_step": 10 * index,
        "last_step": 10 * index + 9,
        "amax": 2.0 ** (first + 42.4 - 0.7 * index),
        "flushed_fp16": shares["flushed_fp16"] * fade,
        "l1_flushed_fp16": shares["l1_flushed_fp16"] * fade,
    }


def parameter(index: int, names: tuple[str, ...]) -> dict[str, Any]:
    retention = 1 / (1 + 0.12 * index)
    return {
        "name": names[index % len(names)] if names else f"encoder.layers.{index}.mlp.fc1.weight",
        "retention": retention if index != 3 else None,
        "retention_0_1": retention / 2,
        "retention_0_01": retention / 25,
        "accumulated_retention": min(1.0, retention * 1.1),
        "noise": 0.2 * (1 - retention),
        "lost_updates_fraction": 1 - retention,
        "below_2_24_fraction": 0.001 * index,
        "ratio_above_2048_fraction": min(1.0, 0.04 * index),
        "learning_rate": 1e-3 if index != 2 else None,
        "verdict": "required" if retention < 0.8 else "not_needed",
    }


def environment(title: str) -> dict[str, Any]:
    return {
        "precscope": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0",
        "numpy": "2.2.0",
        "device": "cpu",
        "device_name": "8-core processor",
        "threads": 2,
        "platform": "Linux x86_64",
        "created": "2026-01-02T03:04:05Z",
        "command": f"precscope analyze {title}.py --steps 100",
        "seed": 0,
        "target_format": "fp16",
    }


def coverage(sites: int, title: str) -> dict[str, Any]:
    return {
        "modules_seen": 31,
        "modules_not_seen": [
            {
                "name": title,
                "module_type": "Dropout",
                "reason": "never called in the observed steps",
            }
        ],
        "tensors_skipped": [{"what": "token ids", "reason": "not floating point", "count": 20}],
        "observer_errors": [],
        "observed_steps": 80,
        "sites": sites,
    }


def definitions() -> list[dict[str, str]]:
    return [
        {"term": "flushed", "definition": "|x| <= 2^-25: rounds to zero in FP16."},
        {"term": "subnormal", "definition": "2^-25 < |x| < 2^-14: kept with fewer than 11 bits."},
        {"term": "overflow", "definition": "|x| >= 65520: becomes infinity in FP16."},
        {
            "term": "retention",
            "definition": "R = <d, u> / <u, u>, the part of an update that is kept.",
        },
    ]


def findings(worst: str | None) -> list[dict[str, Any]]:
    rows = (
        ("gradient_underflow", "critical", "41 % of this gradient's L1 mass is below 2^-25."),
        ("master_weights", "warning", "FP16 weights keep 34 % of this parameter's updates."),
        ("subnormal", "advice", "12 % of the values have fewer than 11 significant bits."),
        ("overflow", "ok", "No activation comes within 2^4 of 65504."),
    )
    return [
        {
            "rule": rule,
            "severity": severity,
            "site": worst if severity != "ok" else None,
            "message": message,
            "remedy": "Scale the loss by 2^10." if severity == "critical" else "",
            "code": "scaler = torch.amp.GradScaler(init_scale=1024.0)" * (severity == "critical"),
            "evidence": {"l1_flushed": 0.41, "limit_log2": "2^-25", "probe": None},
        }
        for rule, severity, message in rows
    ]


def verdicts() -> list[dict[str, Any]]:
    scaler = "scaler = torch.amp.GradScaler(init_scale=1024.0)"
    rows = (
        ("range", "ok", "Every activation and weight fits FP16; the largest is 2^4.", ""),
        (
            "loss_scale",
            "critical",
            "Without a loss scale FP16 flushes 41 % of the gradients; 2^6 to 2^14 are safe, use 1024.",
            scaler,
        ),
        (
            "master_weights",
            "warning",
            "FP16 weights would keep only 34 % of the updates: train with FP32 master weights.",
            'recipe = precscope.Recipe(master_weights=True, loss_scale="static")',
        ),
        ("training", "ok", "The advised recipe ends within 0.4 % of FP32's loss.", ""),
    )
    return [
        {"question": question, "severity": severity, "sentence": sentence, "code": code}
        for question, severity, sentence, code in rows
    ]


def loss_scale(worst: str | None) -> dict[str, Any]:
    return {
        "verdict": "static",
        "minimum_log2": 6,
        "maximum_log2": 14,
        "recommended": 1024.0,
        "recommended_log2": 10,
        "limiting_sites": {"minimum": worst, "maximum": worst},
        "screen_minimum_log2": 7,
        "gradient_error_floor": 0.021,
        "gradient_error_threshold": 0.031,
        "probe_batches": 3,
        "reason": "FP16 gradients reach their error floor at 2^6 and overflow above 2^14.",
        "curve": [curve_point(log2_scale) for log2_scale in range(-8, 22)],
        "amax_trend": [
            {"step": step, "log2_amax": -1.0 - 0.04 * step + math.sin(step / 5)}
            for step in range(80)
        ],
    }


def curve_point(log2_scale: int) -> dict[str, Any]:
    lost = min(1.0, 2.0 ** (-log2_scale - 4)) if log2_scale < 12 else 0.0
    overflow = min(1.0, 2.0 ** (log2_scale - 24)) if log2_scale > 14 else 0.0
    probed = log2_scale % 2 == 0
    error = min(1.0, 0.021 + lost + (1.0 if overflow else 0.0))
    return {
        "log2_scale": log2_scale,
        "l1_lost": lost,
        "count_lost": lost * 0.6,
        "overflow": overflow,
        "gradient_error": error if probed else None,
        "worst_parameter": "encoder.layers.0.mlp.fc1.weight" if probed else None,
    }


RECIPES = (
    ("fp32", "everything in FP32", 2.1, False),
    ("bf16", "BF16 autocast", 2.12, False),
    ("fp16", "FP16 autocast, dynamic loss scale", 2.11, True),
    ("paper", "FP16 weights, FP32 master copy, loss scale", 2.1, True),
    ("paper-no-master", "as paper, without master weights", 2.9, True),
    ("paper-no-scaling", "as paper, without a loss scale", 3.6, True),
    ("advised", "what the advice says", 2.1, True),
)


def runs(steps: int = 200) -> list[dict[str, Any]]:
    return [run(order, steps) for order in range(len(RECIPES))]


def run(order: int, steps: int) -> dict[str, Any]:
    recipe, description, floor, simulated = RECIPES[order]
    losses: list[float | str] = [
        floor + 2.2 * math.exp(-step / 45) + 0.05 * math.sin(step * 1.7 + order)
        for step in range(steps)
    ]
    diverged = recipe == "paper-no-scaling"
    if diverged:
        losses = [*losses[:120], 40.0, "Infinity", "NaN"]
    scaled = recipe in ("fp16", "paper", "advised")
    return {
        "recipe": recipe,
        "description": description,
        "device": "cpu",
        "simulated": simulated,
        "steps": len(losses),
        "seed": 0,
        "losses": losses,
        "first_loss": losses[0],
        "final_loss": "NaN" if diverged else losses[-1],
        "metrics": {"accuracy": 0.97 - 0.01 * order},
        "skipped_steps": 3 if recipe == "fp16" else 0,
        "skipped_at": [0, 1, 60] if recipe == "fp16" else [],
        "log2_scales": [16.0 - (step > 0) - (step > 1) - (step > 60) for step in range(len(losses))]
        if recipe == "fp16"
        else [10.0] * len(losses) * scaled,
        "diverged_at": 121 if diverged else None,
        "diverged_reason": "the loss became infinite" if diverged else None,
        "step_ms": {"median": 12.3 + order, "p10": 11.9 + order, "p90": 14.0 + order}
        if order != 1
        else None,
        "peak_memory_bytes": None,
        "peak_memory_reason": "PyTorch counts no peak memory on CPU",
        "saved_tensor_bytes": 48_000_000 >> simulated,
        "weight_bytes": 4_000_000 >> simulated,
        "gradient_bytes": 4_000_000 >> simulated,
        "optimizer_bytes": 8_000_000,
    }


def timing() -> dict[str, Any]:
    return {
        "clock": "perf_counter",
        "modules": [],
        "modules_reason": "modules are timed on a GPU only",
        "tensor_cores": None,
        "tensor_cores_reason": "this device has none",
        "nvml": None,
        "nvml_reason": "no NVIDIA driver on this machine",
        "overhead_ratio": 1.08,
        "plain_step_ms": 12.3,
        "observed_step_ms": 13.3,
        "observer_memory_bytes": 1_234_567,
        "overhead_reason": None,
    }
