"""The loss that is recorded of a script is the one that it differentiated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from precscope.recording import Recording
from tests.script.watched import net, watching


def train_endlessly(model: torch.nn.Module, expected: list[float]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while True:
        total = 0.0
        for _ in range(2):
            loss = model(torch.ones(6, 4)).square().mean()
            loss.backward()
            total += loss.item()
            with torch.no_grad():
                loss.zero_()
        expected.append(total)
        optimizer.step()


def test_a_loss_that_is_changed_in_place_after_backward_is_recorded_as_it_was(
    tmp_path: Path,
) -> None:
    expected: list[float] = []
    with watching(tmp_path), pytest.raises(SystemExit):
        train_endlessly(net(), expected)
    recorded = [step.loss for step in Recording.open(tmp_path / "run.precscope").steps]
    assert recorded == pytest.approx(expected[:3])
