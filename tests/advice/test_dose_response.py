"""The sweep over loss scales, read from its document."""

from __future__ import annotations

from typing import Any

import pytest

from precscope import build_result
from precscope.advice.dose_response import dose_response
from tests.support.recordings import recording
from tests.support.runs import run

ERRORS = {-4: 1.5, 0: 0.3, 4: 0.02, 8: 0.02, 12: 0.02, 16: None}
FINALS = {-4: 2.0, 0: 1.03, 4: 1.0, 8: 1.01, 12: 1.015, 16: 3.0}


def document(**changes: Any) -> dict[str, Any]:
    errors = {str(k): {"fc.weight": error} for k, error in ERRORS.items()}
    return {
        "log2_scales": list(ERRORS),
        "steps": 100,
        "seed": 3,
        "device": "cpu",
        "recipe": "static",
        "simulated": True,
        "fp32": run("fp32", 1.0, metrics={"accuracy": 0.9}),
        "probe": {"batches": 2, "floor_log2s": [12, 8], "errors": errors},
        "all": {str(k): error for k, error in ERRORS.items()},
        "runs": {str(k): run(f"static 2^{k}", final) for k, final in FINALS.items()},
        **changes,
    }


def test_each_scale_has_its_error_and_its_loss() -> None:
    found = dose_response(document())
    assert found is not None
    assert [dose.log2_scale for dose in found.doses] == [-4, 0, 4, 8, 12, 16]
    assert [dose.gradient_error for dose in found.doses] == list(ERRORS.values())
    assert [dose.gradient_error_all for dose in found.doses] == list(ERRORS.values())
    assert [dose.overflows for dose in found.doses] == [False] * 5 + [True]
    assert [dose.works for dose in found.doses] == [False, False, True, True, True, False]
    assert found.doses[1].relative_difference == pytest.approx(0.03)
    assert found.working_log2 == (4, 12)
    assert found.gradient_error_floor == 0.02
    assert "from 2^4 to 2^12" in found.reason
    assert "one seed" in found.reason


def test_a_gradient_that_is_rounding_error_is_judged_only_where_it_overflows() -> None:
    probe = document()["probe"]
    for k, row in probe["errors"].items():
        row["norm.bias"] = None if k == "12" else 400.0
    found = dose_response(document(probe=probe, noise=["norm.bias"]))
    assert found is not None
    assert [dose.gradient_error for dose in found.doses] == [1.5, 0.3, 0.02, 0.02, None, None]
    assert found.doses[2].worst_parameter == "fc.weight"
    assert (found.doses[4].worst_parameter, found.doses[4].overflows) == ("norm.bias", True)


def test_a_gap_in_the_middle_is_not_papered_over() -> None:
    runs = document()["runs"] | {"8": run("static 2^8", None)}
    found = dose_response(document(runs=runs))
    assert found is not None
    assert found.working_log2 == (4, 4)
    assert found.doses[3].diverged_at == 7
    assert found.doses[3].works is False


def test_an_interrupted_sweep_keeps_what_is_done() -> None:
    runs = {"-4": document()["runs"]["-4"]}
    found = dose_response(document(runs=runs))
    assert found is not None
    assert len(found.doses) == 1
    assert len(found.planned_log2) == 6
    assert found.working_log2 is None
    assert "none trains" in found.reason


def test_a_sweep_without_runs_says_so() -> None:
    found = dose_response(document(runs={}))
    assert found is not None
    assert found.doses == ()
    assert "yet" in found.reason
    assert dose_response(None) is None


def test_without_fp32_no_scale_is_judged() -> None:
    found = dose_response(document(fp32=None))
    assert found is not None
    assert {dose.works for dose in found.doses} == {None}
    assert "FP32 was not trained" in found.reason


def test_the_result_holds_it_under_its_own_key_and_null_without() -> None:
    entry = build_result(recording([], scale_sweep=document()))["scale_sweep"]
    assert entry["working_log2"] == [4, 12]
    assert entry["doses"][2]["worst_parameter"] == "fc.weight"
    assert build_result(recording([]))["scale_sweep"] is None
