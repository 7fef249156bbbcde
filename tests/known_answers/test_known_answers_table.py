"""``benchmarks/known_answers.py``: its table, its JSON and its exit status."""

from __future__ import annotations

import json

import pytest

from benchmarks.known_answers import main
from precscope.advice import headroom

CASE = "gradients-at-exponent-minus-30"


def test_the_table_shows_expectation_finding_and_margin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", CASE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "expected", "found", "margin", "right"]
    row = next(line for line in lines if line.startswith(CASE))
    assert row.split()[1:] == ["minimum,", "log2", "=", "6", "6", "to", "the", "bit", "yes"]
    assert lines[-1] == "1 of 1 cases right"


def test_a_wrong_answer_is_marked_and_told_by_the_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headroom, "MANY_STEPS", 1)
    assert main(["--case", CASE]) == 1
    out = capsys.readouterr().out
    assert "maximum, log2 = 43" in out
    assert "NO" in out
    assert out.splitlines()[-1] == f"0 of 1 cases right; wrong: {CASE}"


def test_json_holds_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--case", CASE, "--json"]) == 0
    (case,) = json.loads(capsys.readouterr().out)
    assert case["case"] == CASE
    assert case["right"]
    assert {"what": "minimum, log2", "expected": "6", "found": "6", "margin": "to the bit",
            "right": True} in case["claims"]  # fmt: skip


def test_an_unknown_case_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--case", "nothing"])
    assert stop.value.code == 2
    assert "nothing" in capsys.readouterr().err
