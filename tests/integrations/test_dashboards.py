"""A Recording in TensorBoard and Weights & Biases, read back from what the libraries wrote."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import precscope
from precscope.integrations.series import Exponents, exponents, scalars
from precscope.integrations.tensorboard import write_recording
from precscope.integrations.wandb import log_recording
from tests.integrations.wandb_file import history


@pytest.fixture
def recording(tmp_path: Path) -> precscope.Recording:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    path = tmp_path / "run.precscope"
    with precscope.watch(model, optimizer, path=path, every=1) as watch:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 4)).square().mean()
            watch.monitor.record_loss(loss)
            loss.backward()
            optimizer.step()
    return precscope.Recording.open(path)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A run that reaches no network and looks at nothing of this machine; no thread is left."""
    threads = set(threading.enumerate())
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    quiet = wandb.Settings(
        silent=True, console="off", disable_git=True, disable_code=True,
        x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
    )  # fmt: skip
    yield wandb.init(project="precscope", settings=quiet)
    wandb.teardown()
    assert set(threading.enumerate()) == threads


def test_each_step_has_its_scalars(recording: precscope.Recording) -> None:
    found = list(scalars(recording))
    assert [s.step for s in found if s.tag == "precscope/loss"] == [0, 1, 2]
    assert {s.tag for s in found} == {
        "precscope/loss", "precscope/log2_gradient_amax", "precscope/log2_loss_scale"
    }  # fmt: skip


def test_octaves_add_up_to_the_values_that_were_counted(recording: precscope.Recording) -> None:
    found = {e.tag: e for e in exponents(recording)}
    weights = found["precscope/weight/weight"]
    assert sum(weights.counts) == 3 * 8
    assert len(weights.edges) == len(weights.counts) + 1
    assert weights.counts[0] > 0
    assert weights.counts[-1] > 0


def octaves(recording: precscope.Recording) -> dict[tuple[str, int], Exponents]:
    """The histograms that a dashboard should show, by tag and step."""
    return {(found.tag, found.step): found for found in exponents(recording)}


def test_tensorboard_shows_what_was_recorded(
    recording: precscope.Recording, tmp_path: Path
) -> None:
    with SummaryWriter(str(tmp_path / "board")) as writer:
        write_recording(recording, writer)
    board = EventAccumulator(str(tmp_path / "board"), {"histograms": 0, "scalars": 0}).Reload()
    shown = {(t, e.step): e.value for t in board.Tags()["scalars"] for e in board.Scalars(t)}
    assert shown == {(s.tag, s.step): pytest.approx(s.value) for s in scalars(recording)}
    expected = octaves(recording)
    for tag in board.Tags()["histograms"]:
        for event in board.Histograms(tag):
            found = expected.pop((tag, event.step))
            drawn = event.histogram_value
            assert list(found.edges[1:]) == drawn.bucket_limit
            assert list(found.counts) == drawn.bucket
            assert (drawn.min, drawn.max) == (found.edges[0], found.edges[-1])
    assert not expected


def test_wandb_holds_what_was_recorded(
    recording: precscope.Recording, tmp_path: Path, offline: Any
) -> None:
    with offline as run:
        log_recording(recording, run)
    wandb.teardown()  # the service writes until its end
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    expected: dict[tuple[str, int], Any] = {
        (s.tag, s.step): pytest.approx(s.value) for s in scalars(recording)
    }
    for (tag, step), found in octaves(recording).items():
        drawn = {"_type": "histogram", "values": list(found.counts), "bins": list(found.edges)}
        expected |= {(f"{tag}/{name}", step): value for name, value in drawn.items()}
    held = {
        (tag, entry["_step"]): value
        for entry in history(path)
        for tag, value in entry.items()
        if not tag.startswith("_")
    }
    assert held == expected
