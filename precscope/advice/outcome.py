"""What came of training: each recipe's loss beside FP32's, same seed, same batches."""

from __future__ import annotations

from math import isfinite
from typing import Any

from precscope.advice.findings import Finding, Severity, Verdict

SAME_LOSS = 0.02
"""Relative difference of final losses within which one seed cannot tell two runs apart. It is a
convention for a single run; parity proper needs the spread over seeds."""

EXPECTED_TO_FAIL = ("paper-no-master", "paper-no-scaling", "paper-fp16-accumulation")


def relative_loss_gap(run: dict[str, Any], baseline: dict[str, Any]) -> float | None:
    """``(final - final_fp32) / |final_fp32|``; None where either is missing or not finite."""
    final, reference = run.get("final_loss"), baseline.get("final_loss")
    if not isinstance(final, (int, float)) or not isinstance(reference, (int, float)):
        return None
    if not (isfinite(final) and isfinite(reference)) or reference == 0:
        return None
    return (final - reference) / abs(reference)


def _find(runs: list[dict[str, Any]], recipe: str) -> dict[str, Any] | None:
    return next((r for r in runs if r.get("recipe") == recipe), None)


def training_verdict(runs: list[dict[str, Any]]) -> Verdict:
    """One sentence: did the advised recipe train like FP32?"""
    baseline, advised = _find(runs, "fp32"), _find(runs, "advised")
    code = 'recipe = precscope.Recipe.load("recipe.json")'
    if baseline is not None and advised is None:
        names = ", ".join(str(r.get("recipe")) for r in runs)
        return Verdict(
            "training", "advice", f"Trained {names}; the advised recipe was not among them."
        )
    if baseline is None or advised is None:
        return Verdict(
            "training", "advice", "Not trained: the advice has not been put to the test."
        )
    if advised.get("diverged_at") is not None:
        step = advised["diverged_at"]
        return Verdict("training", "critical", f"The advised recipe diverged at step {step}.", code)
    gap = relative_loss_gap(advised, baseline)
    numbers = (
        f"final loss {_number(advised)} beside FP32's {_number(baseline)} after "
        f"{advised.get('steps')} steps, {advised.get('skipped_steps', 0)} skipped"
    )
    if gap is None:
        return Verdict("training", "warning", f"The runs cannot be compared: {numbers}.", code)
    if gap <= SAME_LOSS:
        return Verdict("training", "ok", f"The advised recipe trains like FP32: {numbers}.", code)
    sentence = f"The advised recipe trained {gap:.1%} worse than FP32: {numbers}."
    return Verdict("training", "critical", sentence, code)


def _number(run: dict[str, Any]) -> str:
    value = run.get("final_loss")
    return f"{value:.4g}" if isinstance(value, (int, float)) else "none"


def training_findings(runs: list[dict[str, Any]]) -> list[Finding]:
    """Recipes that diverged or fell behind FP32."""
    baseline = _find(runs, "fp32")
    if baseline is None:
        return []
    found = [_run_finding(run, baseline) for run in runs if run.get("recipe") != "fp32"]
    return [f for f in found if f is not None]


def _run_finding(run: dict[str, Any], baseline: dict[str, Any]) -> Finding | None:
    recipe = str(run.get("recipe"))
    gap = relative_loss_gap(run, baseline)
    diverged = run.get("diverged_at")
    if diverged is None and (gap is None or gap <= SAME_LOSS):
        return None
    what = f"diverged at step {diverged}" if diverged is not None else f"ended {gap:.1%} above FP32"
    severity: Severity = "critical" if recipe == "advised" else "advice"
    return Finding(
        "recipe_diverged" if diverged is not None else "recipe_behind",
        severity,
        None,
        f"recipe {recipe} {what} (final loss {_number(run)}, FP32 {_number(baseline)})",
        "train with the advised recipe" if recipe != "advised" else "stay with FP32 or BF16",
        "",
        {"final_loss": run.get("final_loss"), "final_loss_fp32": baseline.get("final_loss")},
    )
