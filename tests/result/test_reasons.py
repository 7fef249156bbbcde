"""What was not measured says why, and the reason is true."""

from __future__ import annotations

from precscope import Recording, build_result


def test_modules_that_were_not_timed_are_not_said_to_need_a_gpu() -> None:
    timing = build_result(Recording.from_facts())["timing"]
    assert timing["modules"] == []
    assert "CUDA" not in timing["modules_reason"]
    assert timing["tensor_cores_reason"] == "no CUDA device in this run"
