"""What is handed to ``watch``: one name is one name, and what is wrong is named in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import precscope
from precscope.errors import UsageError


def trained(path: Path, **options: Any) -> set[tuple[str, str]]:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with precscope.watch(model, optimizer, path=path, every=1, **options):
        model(torch.randn(5, 3)).sum().backward()
        optimizer.step()
    return {(site.name, site.kind) for site in precscope.Recording.open(path).sites}


def test_one_pattern_needs_no_list(tmp_path: Path) -> None:
    one = trained(tmp_path / "one.precscope", include="0*")
    assert one == trained(tmp_path / "list.precscope", include=["0*"])
    assert {name.partition(".")[0] for name, _ in one} == {"0"}


def test_one_excluded_pattern_and_one_kind_need_no_list(tmp_path: Path) -> None:
    seen = trained(tmp_path / "run.precscope", exclude="2*", kinds="weight")
    assert seen == {("0.weight", "weight"), ("0.bias", "weight")}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model is a NoneType"),
    "no optimizer": ({"optimizer": 3}, "optimizer is a int"),
    "words": ({"every": "ten"}, "every='ten'"),
    "a function": ({"every": lambda step: True}, "pass a function as schedule="),
    "a number": ({"schedule": 3}, "schedule is a function"),
    "half": ({"start": 0.5}, "start=0.5"),
}


@pytest.mark.parametrize("given", WRONG, ids=str)
def test_a_wrong_argument_is_named_and_leaves_no_file(tmp_path: Path, given: str) -> None:
    model = torch.nn.Linear(2, 1)
    options, told = WRONG[given]
    path = tmp_path / "run.precscope"
    with pytest.raises(UsageError, match=told):
        precscope.watch(**{"model": model, "optimizer": None, "path": path, **options})
    assert not path.exists()


def test_a_model_and_its_optimizer_the_wrong_way_round() -> None:
    model = torch.nn.Linear(2, 1)
    swapped: Any = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="model is a SGD"):
        precscope.watch(swapped, model)  # type: ignore[arg-type]


def test_advice_is_asked_of_a_recording() -> None:
    path: Any = "run.precscope"
    with pytest.raises(UsageError, match=r"Recording.open\(path\)"):
        precscope.advise(path)
