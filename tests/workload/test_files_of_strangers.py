"""Model files that a first-time user writes: each error is one line that names what to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from precscope.errors import WorkloadError
from precscope.workload import Session, check_first_loss, load_workload

Write = Callable[..., Path]

ARGPARSE = (
    "import argparse, torch\n"
    "parser = argparse.ArgumentParser()\n"
    "parser.add_argument('--width', type=int, {how})\n"
    "width = parser.parse_args().width"
)


def failure(path: Path, then: Callable[[Session], object] = lambda session: None) -> str:
    """The message of the error from loading the file, and doing ``then`` with a session of it."""
    with pytest.raises(WorkloadError) as caught:
        then(load_workload(path).session(0))
    return str(caught.value)


def test_a_command_line_parsed_at_import_gets_no_arguments_of_ours(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["precscope", "analyze", "toy.py", "--steps", "5"])
    model = "def model():\n    return torch.nn.Linear(3, width)"
    path = write(top=ARGPARSE.format(how="default=2"), model=model)
    session = load_workload(path).session(0)
    assert isinstance(session.model, torch.nn.Linear)
    assert session.model.out_features == 2


def test_a_required_argument_is_told_in_one_line(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failure(write(top=ARGPARSE.format(how="required=True")))
    assert message.startswith("toy.py:4: importing it ended the program by sys.exit(2): a model")
    assert 'if __name__ == "__main__"' in message
    assert "toy.py" in capsys.readouterr().err


def test_double_precision_is_refused_as_half_is(write: Write) -> None:
    path = write(model="def model():\n    return torch.nn.Linear(3, 1).double()")
    message = failure(path)
    assert message.startswith("toy.py: every parameter of model() is float64: return the model")


def test_some_parameters_in_double_precision_are_the_user_s_choice(write: Write) -> None:
    path = write(
        model="def model():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Linear(1, 1).double())"
    )
    assert len(list(load_workload(path).session(0).model.parameters())) == 4


def test_a_loss_that_ignores_the_model(write: Write) -> None:
    path = write(
        top="import torch\nw = torch.ones(3, requires_grad=True)",
        loss="def loss(model, batch):\n    return (batch * w).sum()",
    )
    message = failure(path, check_first_loss)
    assert message.startswith("toy.py: loss() gives no parameter of the model a gradient")


def test_an_iterator_that_the_first_session_used_up(write: Write) -> None:
    batches = "made = iter([torch.ones(2, 3)])\ndef batches():\n    return made"
    workload = load_workload(write(batches=batches))
    next(workload.session(0).batches())
    with pytest.raises(WorkloadError, match="empty when called again: return a new iterable"):
        next(workload.session(0).batches())
