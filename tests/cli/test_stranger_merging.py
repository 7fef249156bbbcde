"""Recordings that are no ranks of one training are not added up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import precscope
from tests.cli.conftest import Invoke


def record(path: Path, model: torch.nn.Module) -> Path:
    """A Recording of two steps of the model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with precscope.watch(model, optimizer, path=path, every=1):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(2, 3)).square().mean().backward()
            optimizer.step()
    return path


@pytest.fixture
def one(here: Path) -> Path:
    return record(here / "one" / "run.precscope", torch.nn.Linear(3, 1))


@pytest.fixture
def other(here: Path) -> Path:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    return record(here / "other.precscope", network)


COMMANDS = (
    ("report",),
    ("export", "--csv", "tables"),
    ("check", "--fail-on", "overflow > 0"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_two_models_are_not_ranks(
    command: tuple[str, ...], one: Path, other: Path, invoke: Invoke
) -> None:
    result = invoke(*command, str(one), str(other))
    assert result.exit_code == 2
    assert "have no site in common, they are not ranks of one training" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_recording_named_twice_is_not_counted_twice(
    command: tuple[str, ...], one: Path, invoke: Invoke
) -> None:
    result = invoke(*command, str(one.parent), str(one))
    assert result.exit_code == 2
    assert "are the same Recording: name each rank once" in result.stderr


def test_a_folder_may_hold_a_recording_of_any_name(other: Path, invoke: Invoke) -> None:
    assert "precscope Sequential" in invoke("report", str(other.parent)).stdout


def test_a_folder_without_a_recording_is_said_to_be_one(here: Path, invoke: Invoke) -> None:
    result = invoke("report", str(here))
    assert result.exit_code == 1
    assert "is a folder without a Recording" in result.stderr


def test_the_page_cannot_go_to_stdout(one: Path, invoke: Invoke) -> None:
    result = invoke("report", str(one), "-o", "-")
    assert result.exit_code == 2
    assert "only --json can go to stdout" in result.stderr
    assert not Path("-").exists()
