"""The sweep over static loss scales: dose and response, and what an interruption leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from precscope import build_result
from precscope.analysis import SweepOptions, scale_sweep
from precscope.analysis.sweep import ScaleProbe
from precscope.errors import UsageError
from precscope.recording import Recording
from precscope.training import train
from tests.support.small_workload import Phases, small_workload


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Phases, Path]:
    folder = tmp_path_factory.mktemp("sweep")
    options = SweepOptions(log2_from=-24, log2_to=24, log2_step=8, steps=40, device="cpu")
    phases = Phases()
    path = folder / "r.precscope"
    recording = scale_sweep(small_workload(folder), path, options, "test", phases)
    result = build_result(recording)
    return result, phases, folder


def test_every_scale_is_trained_after_one_fp32_run(swept: Any) -> None:
    result, phases, _ = swept
    scales = [-24, -16, -8, 0, 8, 16, 24]
    assert [dose["log2_scale"] for dose in result["scale_sweep"]["doses"]] == scales
    assert phases.names[0] == "train fp32, probe all scales"
    assert phases.names[1:] == [f"train at 2^{k}" for k in scales]
    assert result["runs"] == []


def test_error_and_loss_rise_where_gradients_are_flushed_and_where_they_overflow(
    swept: Any,
) -> None:
    sweep = swept[0]["scale_sweep"]
    doses = {dose["log2_scale"]: dose for dose in sweep["doses"]}
    # At 2^-24 every gradient below 2^-1 is flushed; the model stays where it began.
    assert doses[-24]["gradient_error_all"] == pytest.approx(1.0, abs=1e-3)
    assert doses[-24]["works"] is False
    falling = [doses[k]["gradient_error_all"] for k in (-24, -16, -8, 0)]
    assert falling == sorted(falling, reverse=True)
    for k in (0, 8):
        assert doses[k]["works"]
        assert doses[k]["gradient_error_all"] < 0.02
        assert doses[k]["skipped_steps"] == 0
    assert doses[24]["overflows"]
    assert doses[24]["gradient_error"] is None
    assert doses[24]["skipped_steps"] == 40
    assert doses[24]["works"] is False
    low, high = sweep["working_log2"]
    assert low <= 0
    assert high >= 8


def test_gradients_that_are_rounding_error_are_judged_no_more_than_by_an_analysis(
    swept: Any,
) -> None:
    # The true gradient of a bias before a BatchNorm is zero.
    result, _, folder = swept
    document = Recording.open(folder / "r.precscope").document("scale_sweep")
    assert document["noise"] == ["0.bias"]
    # Measured it is all the same: its errors are stored.
    assert document["probe"]["errors"]["0"]["0.bias"] > 10
    for dose in result["scale_sweep"]["doses"]:
        assert dose["worst_parameter"] != "0.bias"
        if not dose["overflows"]:
            assert dose["gradient_error"] <= 1.0


def test_the_error_of_all_parameters_leaves_rounding_error_out_unless_it_overflows(
    tmp_path: Path,
) -> None:
    with ScaleProbe(small_workload(tmp_path), (-16, 0, 24), 4) as probe:
        train(probe, "fp32", 4, 0, on_step=probe.on_step)
    assert probe.noise() == {"0.bias"}
    errors, rows = probe.errors(), probe.document()["errors"]
    assert errors["24"] is None
    for k in ("-16", "0"):
        # A vector's relative error is at most the largest of its parts'.
        judged = [error for name, error in rows[k].items() if name != "0.bias"]
        assert errors[k] is not None
        assert errors[k] <= max(judged)
    assert max(rows["-16"].values()) > 100


def test_the_observers_of_a_run_that_fails_are_taken_away(tmp_path: Path) -> None:
    def interrupted() -> None:
        with probe:
            raise KeyboardInterrupt

    probe = ScaleProbe(small_workload(tmp_path), (0,), 4)
    model = probe.session(0, "cpu").model
    assert any(module._forward_hooks for module in model.modules())
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not any(module._forward_hooks for module in model.modules())


def test_probing_leaves_the_fp32_run_bit_identical(swept: Any) -> None:
    result, _, folder = swept
    plain = train(small_workload(folder), "fp32", 40, 0)
    assert result["scale_sweep"]["fp32_final_loss"] == plain.final_loss
    assert result["scale_sweep"]["fp32_metrics"] == plain.metrics


def test_the_whole_sweep_is_in_the_recording(swept: Any) -> None:
    result, _, folder = swept
    assert build_result(Recording.open(folder / "r.precscope")) == result


def test_an_interruption_keeps_the_scales_that_are_done(tmp_path: Path) -> None:
    class Interrupting(Phases):
        def phase(self, name: str, total: int | None) -> None:
            super().phase(name, total)
            if name == "train at 2^4":
                raise KeyboardInterrupt

    options = SweepOptions(log2_from=0, log2_to=8, log2_step=2, steps=4, device="cpu")
    path = tmp_path / "r.precscope"
    with pytest.raises(KeyboardInterrupt):
        scale_sweep(small_workload(tmp_path), path, options, "test", Interrupting())
    sweep = build_result(Recording.open(path))["scale_sweep"]
    assert [dose["log2_scale"] for dose in sweep["doses"]] == [0, 2]
    assert sweep["planned_log2"] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    "wrong",
    [{"log2_step": 0}, {"steps": 0}, {"log2_from": 5, "log2_to": 4}, {"log2_to": 41}],
)
def test_a_range_that_cannot_be_swept_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        SweepOptions(**wrong)  # type: ignore[arg-type]


def test_the_scales_are_the_issue_s_by_default() -> None:
    assert SweepOptions().log2_scales == tuple(range(-12, 21, 2))
    assert SweepOptions(log2_from=0, log2_to=5, log2_step=2).log2_scales == (0, 2, 4)
