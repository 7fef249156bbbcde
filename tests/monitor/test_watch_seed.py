"""The seed that a watched run states: only one that somebody set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import precscope


def stated(path: Path) -> dict[str, Any]:
    with precscope.watch(nn.Linear(2, 2), path=path):
        pass
    recording = precscope.Recording.open(path)
    environment: dict[str, Any] = precscope.build_result(recording)["environment"]
    return environment


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_a_seed_that_was_set_is_stated(tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    environment = stated(tmp_path / "run.precscope")
    assert environment["seed"] == seed
    assert "seed_reason" not in environment


def test_a_seed_that_torch_may_have_drawn_is_null_with_the_reason(tmp_path: Path) -> None:
    torch.manual_seed(4864901396941944862)
    environment = stated(tmp_path / "run.precscope")
    assert environment["seed"] is None
    assert "4864901396941944862" in environment["seed_reason"]
    assert "cannot be told" in environment["seed_reason"]
