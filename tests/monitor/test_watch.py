"""precscope.watch: the drop-in, from a training loop to a Recording and its advice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

import precscope
from precscope.errors import RecordingError, UsageError


def train(path: Path, steps: int, **options: int) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    with precscope.watch(model, optimizer, path=path, **options):  # type: ignore[arg-type]
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


def test_a_watched_training_leaves_a_recording_with_advice(tmp_path: Path) -> None:
    train(tmp_path / "run.precscope", 30, every=10)
    recording = precscope.Recording.open(tmp_path / "run.precscope")
    assert recording.is_complete
    assert [s.step for s in recording.steps] == [0, 10, 20]
    advice = precscope.advise(recording)
    assert advice.loss_scale.verdict == "not_needed"
    assert len(list(advice)) == len(advice)
    result = precscope.build_result(recording)
    assert result["title"] == "Sequential"
    assert result["environment"]["device"] == "cpu"


def test_start_stop_and_every_choose_the_steps(tmp_path: Path) -> None:
    train(tmp_path / "run.precscope", 12, every=2, start=3, stop=9)
    recording = precscope.Recording.open(tmp_path / "run.precscope")
    assert [s.step for s in recording.steps] == [3, 5, 7]


def test_an_existing_recording_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    train(path, 1)
    with pytest.raises(RecordingError, match=r"run\.precscope"):
        train(path, 1)
    train(path, 2, every=1, overwrite=True)
    assert len(precscope.Recording.open(path).steps) == 2


def test_a_wrong_kind_is_refused_before_a_hook_is_set(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(UsageError, match="activation"):
        precscope.watch(model, path=tmp_path / "run.precscope", kinds=("everything",))
    assert not model._forward_hooks
    assert not (tmp_path / "run.precscope").exists()


SCRIPT = """
    import sys, torch, precscope
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    precscope.watch(model, optimizer, every=1, path=sys.argv[1])
    for step in range(5):
        model(torch.randn(8, 4)).sum().backward()
        optimizer.step()
    if len(sys.argv) > 2:
        raise SystemExit(int(sys.argv[2]))
"""


@pytest.mark.parametrize("code", [0, 3])
def test_a_program_that_ends_without_closing_loses_nothing(tmp_path: Path, code: int) -> None:
    path = tmp_path / "run.precscope"
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(SCRIPT),
        str(path),
        *([str(code)] if code else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert len(recording.steps) == 5
