"""A Recording in TensorBoard and Weights & Biases, against the libraries where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import precscope
from precscope.integrations.series import exponents, scalars
from precscope.integrations.tensorboard import write_recording


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


class Writer:
    """The two methods of a SummaryWriter that are used."""

    def __init__(self) -> None:
        self.histograms: list[dict[str, Any]] = []
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars.append((tag, value, step))

    def add_histogram_raw(self, tag: str, **values: Any) -> None:
        self.histograms.append({"tag": tag, **values})


def test_tensorboard_gets_raw_counts(recording: precscope.Recording) -> None:
    writer = Writer()
    write_recording(recording, writer)
    assert len(writer.scalars) == 9
    for histogram in writer.histograms:
        assert histogram["num"] == sum(histogram["bucket_counts"])
        assert len(histogram["bucket_limits"]) == len(histogram["bucket_counts"])


def test_tensorboard_itself_takes_it(recording: precscope.Recording, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "board")) as writer:
        write_recording(recording, writer)
    assert any((tmp_path / "board").iterdir())


def test_wandb_itself_takes_it(recording: precscope.Recording, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    from precscope.integrations.wandb import log_recording

    with wandb.init(mode="offline", dir=str(tmp_path), project="precscope") as run:
        log_recording(recording, run)
    assert any((tmp_path / "wandb").iterdir())
