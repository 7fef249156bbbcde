"""What has to be known about a run of an unmodified script before its numbers are believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from precscope.advice.breaches import Run
from precscope.advice.findings import Finding
from precscope.advice.promise import trains_like_fp32

HALF_WEIGHTS = "paper-no-master"
"""The recipe that trains a script with FP16 weights alone; the advised one keeps its FP32 weights."""


def script_findings(document: Mapping[str, Any] | None) -> list[Finding]:
    """Findings from the document ``script``; none for a Recording that is not of a script.

    Args:
        document: ``mixed``: what the script uses by itself, None for nothing; ``failed``: why it
            could not be run with a recipe, by the recipe's name; ``not_run``: recipes that were
            not tried, with the reason.
    """
    if not document:
        return []
    mixed = document.get("mixed")
    found = [_mixed(mixed)] if isinstance(mixed, Mapping) else []
    failed = document.get("failed")
    reasons = failed if isinstance(failed, Mapping) else {}
    found += [_failed(str(name), str(why)) for name, why in reasons.items()]
    left_out = document.get("not_run")
    entries = left_out if isinstance(left_out, list) else []
    return found + [_not_run(entry) for entry in entries if isinstance(entry, Mapping)]


def half_weights_tried(document: Mapping[str, Any] | None, runs: Sequence[Run]) -> str:
    """What a script's runs say of FP16 weights without a master copy; "" if it is no script.

    Args:
        document: ``script``.
        runs: the recorded runs.
    """
    if not document:
        return ""
    if not any(run.get("recipe") == HALF_WEIGHTS for run in runs):
        return (
            "this is foreseen from the measured updates and not tried, because the script's own "
            f"weights stay FP32 (--recipes {HALF_WEIGHTS} tries it)"
        )
    if trains_like_fp32(runs, HALF_WEIGHTS):
        return f"the script trained with FP16 weights alone ({HALF_WEIGHTS}) as with FP32"
    return (
        f"that the script trains with FP16 weights alone is not shown by its {HALF_WEIGHTS} run, "
        "so keep the FP32 weights until a longer one does"
    )


def _mixed(mixed: Mapping[str, Any]) -> Finding:
    dtype = mixed.get("autocast")
    uses = [f"autocast to {dtype}"] if dtype else []
    uses += ["a GradScaler"] if mixed.get("grad_scaler") else []
    return Finding(
        "script_is_mixed",
        "advice",
        None,
        f"The script uses {' and '.join(uses)} by itself: it was observed that way and run with "
        "no other recipe. Gradients are shown without its loss scale; what autocast rounded to "
        "zero was gone before it could be counted.",
        "switch its mixed precision off and analyze again to see what half precision loses",
        "",
        {"autocast": dtype, "grad_scaler": str(bool(mixed.get("grad_scaler")))},
    )


def _failed(recipe: str, why: str) -> Finding:
    return Finding(
        "script_fails_with_recipe",
        "warning",
        None,
        f"Run again with recipe {recipe}, the script fails: {why}",
        "look for values that the script converts, compares or checks itself",
        "",
        {"recipe": recipe, "error": why},
    )


def _not_run(entry: Mapping[str, Any]) -> Finding:
    recipes = ", ".join(map(str, entry.get("recipes") or ()))
    reason = str(entry.get("reason"))
    return Finding(
        "script_recipes_not_run",
        "ok",
        None,
        f"The script was not run with {recipes}: {reason}.",
        "",
        "",
        {"recipes": recipes, "reason": reason},
    )
