"""An option that cannot be followed is told before the user's file is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

FILE = """
raise SystemExit("the file was loaded")

def model(): ...
def batches(): ...
def loss(model, batch): ...
"""


@pytest.mark.parametrize("command", ["analyze", "train", "scale-sweep"])
def test_a_device_that_is_not_here(
    command: str, here: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (here / "model.py").write_text(FILE)
    result = invoke(command, "model.py", "--device", "cuda", "-q")
    assert result.exit_code == 2
    assert result.stderr == "error: no CUDA device here for 'cuda': choose --device cpu\n"
    assert not (here / "precscope-runs").exists()


@pytest.mark.parametrize("command", ["analyze", "train"])
def test_a_recipe_that_does_not_exist(command: str, here: Path, invoke: Any) -> None:
    (here / "model.py").write_text(FILE)
    result = invoke(command, "model.py", "--recipes", "fp32,fp12", "-q")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unknown recipe 'fp12': choose one of fp32, ")
    assert result.stderr.count("\n") == 1
    assert not (here / "precscope-runs").exists()
