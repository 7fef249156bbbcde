"""A result with known numbers in every section that rules are about."""

from __future__ import annotations

from typing import Any

import torch

from precscope.histogram import ExponentHistogram
from precscope.kernels.reference import observe_reference
from precscope.kernels.row import new_rows, to_histogram
from precscope.rules import Judgement, judge, parse_rule

Result = dict[str, Any]


def histogram(*values: float) -> ExponentHistogram:
    row = new_rows(1)[0]
    observe_reference(torch.tensor(values, dtype=torch.float64), row)
    return to_histogram(row)


def site(name: str, kind: str, *values: float, at_risk: bool = True) -> dict[str, Any]:
    """An entry of ``sites``, as a result has it."""
    counted = histogram(*values)
    low, high = counted.exponent_range or (0, -1)
    inside = slice(low + 149, high + 150)
    return {
        "name": name,
        "kind": kind,
        "at_risk": at_risk,
        "histogram": {
            "first_exponent": low,
            "counts": [int(c) for c in counted.counts[inside]],
            "powers": [int(c) for c in counted.powers[inside]],
            "zeros": counted.zeros,
            "infinities": counted.infinities,
            "nans": counted.nans,
        },
        "amax": counted.amax,
        "sum_abs": counted.sum_abs,
    }


def parameter(name: str, retention: float | None, at_risk: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "at_risk": at_risk,
        "retention": retention,
        "retention_0_1": 0.5,
        "retention_0_01": 0.25,
        "lost_updates_fraction": 0.125,
        "learning_rate": 0.1,
    }


def finding(rule: str, severity: str, where: str | None) -> dict[str, Any]:
    return {"rule": rule, "severity": severity, "site": where, "message": f"{where} is bad"}


def run(recipe: str, seed: int = 0, **known: Any) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "seed": seed,
        "steps": 100,
        "simulated": False,
        "final_loss": 0.5,
        "skipped_steps": 2,
        "diverged_at": None,
        "metrics": {"accuracy": 0.75},
        "step_ms": {"median": 8.0},
        "peak_memory_bytes": 1024,
        **known,
    }


def sample() -> Result:
    """Values are powers of two where they can be, so that limits can be met exactly."""
    return {
        "schema": 1,
        "title": "sample",
        "coverage": {
            "modules_seen": 3,
            "modules_not_seen": [
                {"name": "unused", "reason": "its forward was not called while observed"},
                {"name": "(root)", "reason": "hands on a tensor that another module made"},
            ],
            "tensors_skipped": [{"what": "enc", "reason": "sparse", "count": 3}],
            "observer_errors": [{"where": "enc", "message": "oops", "count": 2}],
            "observed_steps": 60,
            "sites": 4,
        },
        "sites": [
            # 1 of 4 values flushed; 1.5 * 2^-31 of 3 + that, by mass
            site("enc.0", "activation", 1.0, 1.0, 1.0, 1.5 * 2.0**-31),
            site("enc.0", "activation_gradient", 2.0**-26, 2.0**-26, 2.0**-10, 2.0**-10),
            site("enc.0.weight", "weight", 2.0**-20, 0.5, 0.5, 0.5),
            site("head", "activation", 2.0**17, 1.0, at_risk=False),
        ],
        "findings": [
            finding("overflow", "critical", "head"),
            finding("scale_drift", "warning", None),
        ],
        "non_finite": [],
        "loss_scale": {
            "verdict": "static",
            "minimum_log2": 4,
            "maximum_log2": 12,
            "recommended_log2": 8,
            "limiting_sites": {"minimum": "enc.0.weight", "maximum": "head"},
            "curve": [
                {"log2_scale": 8, "gradient_error": 0.0625, "worst_parameter": "enc.0.weight"},
                {"log2_scale": 9, "gradient_error": None, "worst_parameter": None},
            ],
            "reason": "tried",
        },
        "drift": {"state": "inside", "reason": "it does not move"},
        "master_weights": {
            "verdict": "required",
            "reason": "swallowed",
            "parameters": [
                parameter("enc.0.weight", 0.75),
                parameter("enc.0.bias", 1.0),
                parameter("norm.weight", 0.0, at_risk=False),
            ],
        },
        "accumulation": {
            "reason": None,
            "sites": [
                {
                    "site": "enc.0",
                    "operation": "forward",
                    "verdict": "fp32_required",
                    "reason": "swamped",
                    "error_fp16": 0.125,
                    "length": 512,
                }
            ],
        },
        "runs": [run("fp32", final_loss=0.25), run("advised"), run("fp16", skipped_steps=50)],
        "parity": {
            "recipe": "advised",
            "verdict": "worse",
            "reason": "worse by 0.25",
            "breaches": [{"kind": "behind", "what": "ended worse"}],
        },
        "timing": {"overhead_ratio": 1.5, "overhead_reason": None},
    }


def judged(rule: str, result: Result | None = None) -> Judgement:
    return judge(parse_rule(rule), sample() if result is None else result)


def is_hit(rule: str, result: Result | None = None) -> bool:
    """Whether the rule is hit; it must have been judged."""
    found = judged(rule, result)
    assert not found.problem, found.problem
    assert found.compared or found.rule.quantity.over == "findings"
    return bool(found.hits)
