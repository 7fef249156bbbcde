"""The whole flow on a small model file: what is recorded, and that observing changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from precscope import build_result
from precscope.analysis import (
    AnalysisOptions,
    SweepOptions,
    analyze,
    scale_sweep,
    train_only,
)
from precscope.errors import UsageError, WorkloadError
from precscope.recording import Recording
from precscope.workload import load_workload
from tests.support import small_workload
from tests.support.small_workload import Phases

MODEL = small_workload.MODEL.replace("nn.Tanh()", "nn.ReLU(inplace=True)")


def evaluating(returned: str) -> str:
    """The model file with an ``evaluate`` that returns something else."""
    return f"{MODEL[: MODEL.index('def evaluate')]}def evaluate(model):\n    return {returned}\n"


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, dict[str, Any], Phases]:
    folder = tmp_path_factory.mktemp("analysis")
    (folder / "small.py").write_text(MODEL)
    phases = Phases()
    options = AnalysisOptions(steps=20, recipe_steps=30, device="cpu", seeds=1)
    workload = load_workload(folder / "small.py")
    recording = analyze(workload, folder / "run.precscope", options, "command", phases)
    return recording, build_result(recording), phases


def test_observers_and_probes_leave_the_losses_bit_identical(analysis: Any) -> None:
    recording, result, _ = analysis
    observed = [s.loss for s in recording.steps]
    plain = result["runs"][0]
    assert plain["recipe"] == "fp32"
    assert observed == plain["losses"][:20]


def test_every_recipe_was_trained_and_fp32_first(analysis: Any) -> None:
    _, result, phases = analysis
    names = [run["recipe"] for run in result["runs"]]
    assert names == [
        "fp32", "advised", "fp16", "bf16", "paper", "paper-no-scaling", "paper-no-master",
        "paper-fp16-accumulation",
    ]  # fmt: skip
    assert phases.names[0] == "observe fp32"
    assert phases.names[-9:] == [*(f"train {name}" for name in names), "time of each module"]
    for run in result["runs"]:
        assert run["steps"] == 30
        assert run["final_loss"] < run["first_loss"]
        assert run["simulated"] == (run["recipe"] not in ("fp32", "bf16"))


def test_all_four_kinds_were_observed_at_every_place(analysis: Any) -> None:
    _, result, _ = analysis
    seen: dict[str, set[str]] = {}
    for site in result["sites"]:
        seen.setdefault(site["kind"], set()).add(site["name"])
    assert seen["activation"] == {"0", "1", "2", "3", "4"}
    assert seen["activation_gradient"] == {"0", "1", "2", "3", "4"}
    assert seen["weight"] == {"0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"}
    assert seen["weight_gradient"] == seen["weight"]
    assert all(site["observations"] == 20 for site in result["sites"])


def test_the_loss_scale_was_decided_by_a_real_backward(analysis: Any) -> None:
    _, result, _ = analysis
    advice = result["loss_scale"]
    assert advice["verdict"] == "not_needed"
    assert advice["probe_batches"] == 2
    tried = [p for p in advice["curve"] if p["gradient_error"] is not None]
    assert [p["log2_scale"] for p in tried] == [0, advice["maximum_log2"]]
    assert advice["minimum_log2"] <= 0 < advice["maximum_log2"]


def test_the_cost_of_observing_is_measured(analysis: Any) -> None:
    timing = analysis[1]["timing"]
    assert timing["overhead_ratio"] == timing["observed_step_ms"] / timing["plain_step_ms"]
    assert timing["observer_memory_bytes"] > 0
    assert timing["nvml"] is None
    assert timing["nvml_reason"]


def test_the_result_is_strict_json_and_a_function_of_the_file(analysis: Any) -> None:
    recording, result, _ = analysis
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert build_result(Recording.open(recording.path)) == result


def test_training_alone_records_runs_and_no_sites(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(MODEL)
    options = AnalysisOptions(recipes=("bf16",), recipe_steps=3)
    workload = load_workload(tmp_path / "small.py")
    recording = train_only(workload, tmp_path / "r.precscope", options, "command", Phases())
    result = build_result(recording)
    assert [run["recipe"] for run in result["runs"]] == ["fp32", "bf16"]
    assert result["sites"] == []
    assert result["loss_scale"]["verdict"] == "unknown"


def test_a_recipe_that_only_an_analysis_knows_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    (tmp_path / "small.py").write_text(MODEL)
    options = AnalysisOptions(recipes=("advised",))
    workload = load_workload(tmp_path / "small.py")
    with pytest.raises(UsageError, match="advised"):
        train_only(workload, tmp_path / "r.precscope", options, "command", Phases())
    assert not (tmp_path / "r.precscope").exists()


def test_a_nan_at_step_0_names_the_fault(tmp_path: Path) -> None:
    text = MODEL.replace("batch[1])\n", "batch[1]) * float('nan')\n", 1)
    (tmp_path / "small.py").write_text(text)
    workload = load_workload(tmp_path / "small.py")
    with pytest.raises(WorkloadError, match=r"(?i)nan|finite"):
        analyze(workload, tmp_path / "r.precscope", AnalysisOptions(), "command", Phases())


@pytest.mark.parametrize("entry", [analyze, train_only, scale_sweep])
@pytest.mark.parametrize("returned", ["0.5", "{'accuracy': [1]}"])
def test_a_useless_evaluate_is_told_before_anything_is_trained(
    entry: Any, returned: str, tmp_path: Path
) -> None:
    (tmp_path / "small.py").write_text(evaluating(returned))
    workload, phases = load_workload(tmp_path / "small.py"), Phases()
    options = SweepOptions() if entry is scale_sweep else AnalysisOptions(recipes=("fp32",))
    with pytest.raises(WorkloadError, match=r"small.py: evaluate\(\) must return") as caught:
        entry(workload, tmp_path / "r.precscope", options, "command", phases)
    assert "\n" not in str(caught.value)
    assert phases.names == []
    assert not (tmp_path / "r.precscope").exists()


def test_an_analysis_that_trains_nothing_asks_for_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(evaluating("0.5"))
    options = AnalysisOptions(steps=2, train=False)
    workload = load_workload(tmp_path / "small.py")
    recording = analyze(workload, tmp_path / "r.precscope", options, "command", Phases())
    assert len(recording.steps) == 2


def test_what_was_observed_survives_an_interruption(tmp_path: Path) -> None:
    class Interrupting(Phases):
        def advance(self, done: int, note: str = "") -> None:
            if done == 7:
                raise KeyboardInterrupt

    (tmp_path / "small.py").write_text(MODEL)
    workload = load_workload(tmp_path / "small.py")
    with pytest.raises(KeyboardInterrupt):
        analyze(workload, tmp_path / "r.precscope", AnalysisOptions(), "command", Interrupting())
    result = build_result(Recording.open(tmp_path / "r.precscope"))
    assert result["coverage"]["observed_steps"] == 7
    assert result["runs"] == []


def test_a_loss_that_turns_nan_is_reported_with_what_came_before(tmp_path: Path) -> None:
    text = MODEL.replace("SGD(model.parameters(), 0.1, momentum=0.9)",
                         "SGD(model.parameters(), 1e30)")  # fmt: skip
    (tmp_path / "small.py").write_text(text)
    workload = load_workload(tmp_path / "small.py")
    options = AnalysisOptions(steps=12, recipe_steps=5, recipes=("fp32", "advised"))
    result = build_result(analyze(workload, tmp_path / "r.precscope", options, "command", Phases()))
    assert any(f["rule"] == "non_finite" for f in result["findings"])
    assert json.dumps(result, allow_nan=False)
