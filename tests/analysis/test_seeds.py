"""How many seeds, which recipes are trained on them, and recipes from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from precscope import Recipe, build_result
from precscope.analysis import AnalysisOptions, analyze, train_only
from precscope.analysis.seeds import further_seeds, plan_seeds
from precscope.analysis.sweep import static_recipe
from precscope.errors import UsageError
from precscope.training import StepTime, TrainingRun, train
from tests.support.small_workload import Phases, small_workload
from tests.training.fakes import make_workload


@pytest.fixture(scope="module")
def one_run() -> TrainingRun:
    return train(make_workload(), "fp32", 5, seed=0)


def taking(run: TrainingRun, seconds: float) -> TrainingRun:
    step_ms = 1e3 * seconds / run.steps
    return replace(run, step_ms=StepTime(step_ms, step_ms, step_ms))


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 3), (6.6, 3), (6.7, 1), (60.0, 1)])
def test_three_seeds_where_three_runs_fit_into_twenty_seconds(
    one_run: TrainingRun, seconds: float, count: int
) -> None:
    runs = [taking(one_run, 0.1), taking(one_run, seconds)]
    plan = plan_seeds(None, runs, is_proof=True)
    assert plan.count == count
    assert not plan.asked
    assert "20 s" in plan.reason


def test_what_the_user_asks_for_is_done_however_long_it_takes(one_run: TrainingRun) -> None:
    plan = plan_seeds(5, [taking(one_run, 1e4)] * 2, is_proof=True)
    assert (plan.count, plan.asked) == (5, True)


def test_without_a_recipe_to_prove_one_seed_is_enough(one_run: TrainingRun) -> None:
    assert plan_seeds(5, [one_run], is_proof=False).count == 1
    assert plan_seeds(None, [one_run] * 2, is_proof=False).count == 1
    assert plan_seeds(4, [one_run] * 2, is_proof=False).count == 4


def test_a_run_too_short_to_time_is_short(one_run: TrainingRun) -> None:
    assert plan_seeds(None, [replace(one_run, step_ms=None)] * 2, is_proof=True).count == 3


def test_seeds_follow_the_first_and_wrap_around() -> None:
    assert further_seeds(7, 3) == (8, 9)
    assert further_seeds(2**32 - 1, 3) == (0, 1)
    assert further_seeds(0, 1) == ()


def trained(tmp_path: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    phases = Phases()
    settings = AnalysisOptions(device="cpu", recipe_steps=6, **options)
    path = tmp_path / "r.precscope"
    recording = train_only(small_workload(tmp_path), path, settings, "test", phases)
    return build_result(recording), phases.names


def told(result: dict[str, Any]) -> list[tuple[str, int]]:
    return [(run["recipe"], run["seed"]) for run in result["runs"]]


def test_the_proof_comes_first_and_the_others_train_on_one_seed(tmp_path: Path) -> None:
    phases = Phases()
    options = AnalysisOptions(
        steps=6, recipe_steps=6, device="cpu", recipes=("fp32", "paper", "advised"), seeds=2, seed=5
    )
    path = tmp_path / "r.precscope"
    result = build_result(analyze(small_workload(tmp_path), path, options, "test", phases))
    pairs = [("fp32", 5), ("advised", 5), ("fp32", 6), ("advised", 6), ("paper", 5)]
    assert told(result) == pairs
    assert [name for name in phases.names if name.startswith("train")] == [
        "train fp32", "train advised", "train fp32, seed 6", "train advised, seed 6", "train paper",
    ]  # fmt: skip
    parity = result["parity"]
    assert parity["recipe"] == "advised"
    assert parity["seeds"] == [5, 6]
    assert parity["seeds_reason"] == "2 asked for"
    finals = {(run["recipe"], run["seed"]): run["final_loss"] for run in result["runs"]}
    assert parity["loss"]["differences"] == pytest.approx(
        [finals["advised", seed] - finals["fp32", seed] for seed in (5, 6)]
    )
    assert [metric["name"] for metric in parity["metrics"]] == ["accuracy"]
    assert len(result["residual"]["points"]) == 3
    assert result["drift"]["needs"]


def test_other_seeds_have_other_weights_and_batches(tmp_path: Path) -> None:
    result, _ = trained(tmp_path, recipes=("bf16",), seeds=2)
    first = {(run["recipe"], run["seed"]): run["losses"][0] for run in result["runs"]}
    assert first["fp32", 0] != first["fp32", 1]
    assert first["fp32", 0] == pytest.approx(first["bf16", 0], rel=0.02)


def test_train_compares_the_first_other_recipe_only_when_seeds_are_asked_for(
    tmp_path: Path,
) -> None:
    result, _ = trained(tmp_path, recipes=("bf16", "fp16"))
    assert told(result) == [("fp32", 0), ("bf16", 0), ("fp16", 0)]
    assert result["parity"]["verdict"] == "unknown"
    assert "--seeds" in result["parity"]["seeds_reason"]


def test_a_saved_recipe_joins_under_its_name(tmp_path: Path) -> None:
    replace(Recipe.named("bf16"), name="mine").save(tmp_path / "mine.json")
    result, _ = trained(tmp_path, recipes=("fp32",), recipe_files=(tmp_path / "mine.json",))
    assert told(result) == [("fp32", 0), ("mine", 0)]


def test_a_saved_advice_is_proved_by_train(tmp_path: Path) -> None:
    replace(Recipe.named("paper"), name="advised").save(tmp_path / "recipe.json")
    result, _ = trained(tmp_path, recipes=("fp32",), recipe_files=(tmp_path / "recipe.json",))
    assert told(result) == [(name, seed) for seed in range(3) for name in ("fp32", "advised")]
    assert result["parity"]["recipe"] == "advised"


def test_advice_that_flushes_every_gradient_breaks_its_promise_at_the_top(tmp_path: Path) -> None:
    replace(static_recipe(-24), name="advised").save(tmp_path / "recipe.json")
    settings = AnalysisOptions(
        device="cpu", recipe_steps=40, recipes=("fp32",), recipe_files=(tmp_path / "recipe.json",)
    )
    path = tmp_path / "r.precscope"
    result = build_result(train_only(small_workload(tmp_path), path, settings, "test", Phases()))
    assert [breach["kind"] for breach in result["parity"]["breaches"]] == ["behind", "residual"]
    assert result["parity"]["verdict"] == "worse"
    first = result["verdicts"][0]
    assert (first["question"], first["severity"]) == ("training", "critical")
    assert result["findings"][0]["rule"] == "promise_broken"


def test_a_name_that_is_taken_gets_the_file_s_behind_it(tmp_path: Path) -> None:
    Recipe.named("paper").save(tmp_path / "old.json")
    files = (tmp_path / "old.json",)
    result, _ = trained(tmp_path, recipes=("paper",), recipe_files=files)
    assert told(result) == [("fp32", 0), ("paper", 0), ("paper (old)", 0)]
    assert result["runs"][1]["losses"] == result["runs"][2]["losses"]


def test_the_advice_of_this_analysis_keeps_its_name(tmp_path: Path) -> None:
    replace(Recipe.named("bf16"), name="advised").save(tmp_path / "last_week.json")
    options = AnalysisOptions(
        steps=4, recipe_steps=4, device="cpu", recipes=("fp32",), seeds=1,
        recipe_files=(tmp_path / "last_week.json",),
    )  # fmt: skip
    path = tmp_path / "r.precscope"
    result = build_result(analyze(small_workload(tmp_path), path, options, "test", Phases()))
    assert told(result) == [("fp32", 0), ("advised (last_week)", 0)]


@pytest.mark.parametrize(
    ("files", "part"),
    [(("missing.json",), "missing.json"), (("broken.json",), "not valid JSON"),
     (("one.json", "one.json"), "trained already")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_before_anything_runs(
    tmp_path: Path, files: tuple[str, ...], part: str
) -> None:
    (tmp_path / "broken.json").write_text("{")
    Recipe.named("fp32").save(tmp_path / "one.json")
    with pytest.raises(UsageError, match=part):
        trained(tmp_path, recipes=("fp32",), recipe_files=tuple(tmp_path / f for f in files))
    assert not (tmp_path / "r.precscope").exists()


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seeds_are_refused(seeds: int) -> None:
    with pytest.raises(UsageError, match="seeds"):
        AnalysisOptions(seeds=seeds)
