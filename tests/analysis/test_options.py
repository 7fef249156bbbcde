"""What is asked for amiss is told when the options are made, before anything is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.analysis import AnalysisOptions, SweepOptions
from precscope.environment import choose_device
from precscope.errors import UsageError


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"recipes": ("fp32", "fp12")}, "unknown recipe 'fp12'"),
        ({"recipe_files": (Path("nowhere.json"),)}, "nowhere.json"),
        ({"steps": 0}, "steps=0"),
        ({"seeds": 0}, "seeds=0"),
        ({"device": "cuda"}, "--device cpu"),
    ],
)
def test_an_analysis_refuses_what_cannot_be(
    wrong: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=told):
        AnalysisOptions(**wrong)


def test_a_sweep_refuses_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cpu"):
        SweepOptions(device="cuda:1")


def test_the_advised_recipe_is_no_unknown_one() -> None:
    assert AnalysisOptions(recipes=("fp32", "advised")).recipes == ("fp32", "advised")


def test_a_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="the last one is cuda:1"):
        choose_device("cuda:2")
