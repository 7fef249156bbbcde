"""The examples have known answers, and the analysis finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from precscope import build_result
from precscope.analysis import AnalysisOptions, analyze
from precscope.workload import load_workload
from tests.support.small_workload import Phases

EXAMPLES = Path(__file__).parents[2] / "examples"


def result_of(name: str, tmp_path: Path, **options: Any) -> dict[str, Any]:
    workload = load_workload(EXAMPLES / f"{name}.py")
    settings = AnalysisOptions(device="cpu", **options)
    return build_result(analyze(workload, tmp_path / "r.precscope", settings, "test", Phases()))


def run(result: dict[str, Any], recipe: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in result["runs"] if r["recipe"] == recipe)
    return found


def test_at_a_small_learning_rate_master_weights_are_required_and_missed(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    recipes = ("fp32", "advised", "paper-no-master")
    result = result_of("small_lr_mlp", tmp_path, steps=40, recipe_steps=600, recipes=recipes)
    assert result["master_weights"]["verdict"] == "required"
    assert result["recipe"]["master_weights"]
    fp32, advised, without = (run(result, r)["final_loss"] for r in recipes)
    assert advised == pytest.approx(fp32, rel=0.01)
    assert without > fp32 * 1.05
    assert result["verdicts"][3]["severity"] == "ok"


def test_digits_at_their_normal_learning_rate_need_no_scaling(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    recipes = ("fp32", "advised", "paper-no-scaling")
    result = result_of("digits_cnn", tmp_path, steps=40, recipe_steps=60, recipes=recipes)
    assert result["loss_scale"]["verdict"] == "not_needed"
    fp32, advised, unscaled = (run(result, r)["final_loss"] for r in recipes)
    assert advised == pytest.approx(fp32, rel=0.03)
    assert unscaled == pytest.approx(fp32, rel=0.03)


def test_a_large_vocabulary_needs_scaling_and_the_advised_scale_reaches_the_floor(
    tmp_path: Path,
) -> None:
    result = result_of("vocab_lm", tmp_path, steps=24, train=False)
    advice = result["loss_scale"]
    assert advice["verdict"] in ("static", "dynamic")
    errors = {
        p["log2_scale"]: p["gradient_error"]
        for p in advice["curve"]
        if p["gradient_error"] is not None
    }
    assert errors[0] > advice["gradient_error_threshold"]
    assert errors[advice["minimum_log2"]] <= advice["gradient_error_threshold"]
    assert advice["minimum_log2"] <= advice["recommended_log2"] <= advice["maximum_log2"]
    at_or_above = [
        e for k, e in errors.items() if advice["minimum_log2"] <= k <= advice["maximum_log2"]
    ]
    assert all(e <= advice["gradient_error_threshold"] for e in at_or_above)
