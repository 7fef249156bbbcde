from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from precscope.errors import UsageError, WorkloadError
from precscope.workload import Session, check_first_loss, load_workload

Write = Callable[..., Path]


def failure(path: Path, then: Callable[[Session], object] = lambda session: None) -> WorkloadError:
    """The error from loading the file, making a session and doing ``then`` with it."""
    with pytest.raises(WorkloadError) as caught:
        then(load_workload(path).session(0))
    assert "\n" not in str(caught.value)
    return caught.value


def take_loss(session: Session) -> None:
    session.loss(next(session.batches()))


def returning(value: str) -> str:
    return f"def loss(model, batch):\n    out = model(batch)\n    return {value}"


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file" in str(failure(tmp_path / "absent.py"))


def test_directory(tmp_path: Path) -> None:
    assert "is a directory: name the model file inside it" in str(failure(tmp_path))


def test_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = write()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "toy.py: Permission denied" in str(failure(path))


@pytest.mark.parametrize("line", ["def broken(:", "return 1", "x = 'caf\udce9'"])
def test_syntax_error_has_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "toy.py"
    path.write_bytes(f"import torch\n\n{line}\n".encode("utf-8", "surrogateescape"))
    message = str(failure(path))
    assert message.startswith("toy.py")
    assert "syntax error" in message
    assert "utf-8" in message or message.startswith("toy.py:3: ")


def test_checkpoint_given_as_model_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(1)}, path)
    assert str(failure(path)).startswith("weights.pt")


def test_exception_while_importing(write: Write) -> None:
    before = set(sys.modules)
    error = failure(write(top="import torch\nimport a_module_that_is_not_there"))
    assert str(error) == (
        "toy.py:2: importing it raised ModuleNotFoundError:"
        " No module named 'a_module_that_is_not_there'"
    )
    assert isinstance(error.__cause__, ModuleNotFoundError)
    assert not any(name.endswith("_toy") for name in set(sys.modules) - before)


def test_exit_while_importing(write: Write) -> None:
    error = failure(write(top="import torch\nraise SystemExit('pip install what')"))
    assert str(error).startswith(
        "toy.py:2: importing it ended the program by sys.exit(pip install what): a model file"
    )


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("model()", "model()"),
        ("optimizer(model)", "optimizer()"),
        ("batches()", "batches()"),
        ("loss(model, batch)", "loss()"),
        ("evaluate(model)", "evaluate()"),
    ],
)
def test_exception_inside_a_function(write: Write, name: str, call: str) -> None:
    body = f"def {name}:\n    raise ValueError('first line\\nsecond line')"
    path = write(**{name.split("(")[0]: body})
    line = path.read_text().splitlines().index("    raise ValueError('first line\\nsecond line')")

    def use(session: Session) -> None:
        take_loss(session)
        session.evaluate()

    error = failure(path, use)
    assert str(error) == f"toy.py:{line + 1}: {call} raised ValueError: first line second line"
    assert isinstance(error.__cause__, ValueError)


def test_exception_in_a_later_batch(write: Write) -> None:
    batches = "def batches():\n    yield torch.ones(2, 3)\n    1 / 0"
    error = failure(write(batches=batches), lambda s: list(itertools.islice(s.batches(), 2)))
    assert "batches() raised ZeroDivisionError" in str(error)


def test_exception_inside_torch_is_placed_in_the_file(write: Write) -> None:
    error = failure(write(model="def model():\n    return torch.nn.Linear(4, 1)"), take_loss)
    assert str(error).startswith("toy.py:11: loss() raised RuntimeError: mat1 and mat2")


def test_loss_with_the_wrong_arguments(write: Write) -> None:
    error = failure(write(loss="def loss(model):\n    return model"), take_loss)
    assert "loss() raised TypeError: loss() takes 1 positional argument" in str(error)


def test_keyboard_interrupt_passes_through(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_workload(write(top="raise KeyboardInterrupt"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("None", "must return a torch.nn.Module, not None"),
        ("torch.nn.Linear", "must return a torch.nn.Module, not type"),
        ("torch.nn.ReLU()", "has no parameters"),
        (
            "torch.nn.Linear(3, 1).requires_grad_(False)",
            "no parameter of model() has requires_grad",
        ),
        ("torch.nn.LazyLinear(1)", "weight is not initialised yet: run one forward pass"),
        ("torch.nn.Linear(3, 1).half()", "weight is float16: return the model in float32"),
    ],
)
def test_useless_models(write: Write, value: str, told: str) -> None:
    assert told in str(failure(write(model=f"def model():\n    return {value}")))


def test_the_same_module_twice(write: Write) -> None:
    path = write(model="net = torch.nn.Linear(3, 1)\ndef model():\n    return net")
    workload = load_workload(path)
    workload.session(0)
    with pytest.raises(WorkloadError, match="the same module again: build a new one"):
        workload.session(1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("None", "must return a torch.optim.Optimizer, not None"),
        (
            "torch.optim.SGD(torch.nn.Linear(3, 1).parameters())",
            "holds 2 parameters that its model",
        ),
    ],
)
def test_useless_optimizers(write: Write, value: str, told: str) -> None:
    assert told in str(failure(write(optimizer=f"def optimizer(model):\n    return {value}")))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("None", "must return an iterable of batches, not None"),
        ("7", "must return an iterable of batches, not int"),
        ("{'x': torch.ones(2, 3)}", "must return an iterable of batches, not dict"),
        ("torch.tensor(1.0)", "must return an iterable of batches, not Tensor"),
        ("[]", "batches() is empty: yield at least one batch"),
    ],
)
def test_useless_batches(write: Write, value: str, told: str) -> None:
    assert told in str(failure(write(batches=f"def batches():\n    return {value}"), take_loss))


def test_an_iterator_that_cannot_start_again(write: Write) -> None:
    path = write(batches="once = iter([torch.ones(2, 3)] * 3)\ndef batches():\n    return once")
    error = failure(path, lambda session: list(itertools.islice(session.batches(), 4)))
    assert "empty when called again after 3 batches: return a new iterable" in str(error)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("None", "must return a tensor, not None"),
        ("out.mean().item()", "must return a tensor, not float: leave out .item()"),
        ("{'loss': out.mean()}", "must return a tensor, not dict"),
        ("out", "must return a scalar, not shape (5, 1): add .mean()"),
        ("out.mean().to(torch.complex64)", "real floating point numbers, not complex64"),
        ("out.sum().long()", "real floating point numbers, not int64"),
        ("out.mean().detach()", "needs no gradient"),
    ],
)
def test_useless_losses(write: Write, value: str, told: str) -> None:
    assert told in str(failure(write(loss=returning(value)), take_loss))


def test_loss_under_no_grad(write: Write) -> None:
    path = write(loss="@torch.no_grad()\n" + returning("out.mean()"))
    assert "needs no gradient" in str(failure(path, take_loss))


@pytest.mark.parametrize("value", ["(out.mean() - 1e9).sqrt()", "out.mean() / 0"])
def test_a_loss_that_is_not_finite_at_step_0(write: Write, value: str) -> None:
    message = str(failure(write(loss=returning(value)), check_first_loss))
    assert "at step 0 in FP32, before any half precision" in message


def test_a_gradient_that_is_not_finite_at_step_0(write: Write) -> None:
    path = write(loss=returning("(out * 0).sqrt().mean()"))
    message = str(failure(path, check_first_loss))
    assert message.startswith("toy.py: the gradient of weight is not finite at step 0 in FP32")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("None", "must return a dict of name: number, not None"),
        ("0.5", "must return a dict of name: number, not float: return {"),
        ("torch.tensor(0.5)", "must return a dict of name: number, not Tensor: return {"),
        ("{'accuracy': 'high'}", "must return one number per name"),
        ("{'accuracy': torch.ones(2)}", "must return one number per name"),
    ],
)
def test_useless_metrics(write: Write, value: str, told: str) -> None:
    path = write(evaluate=f"def evaluate(model):\n    return {value}")
    assert told in str(failure(path, Session.evaluate))


@pytest.mark.parametrize("name", ["model", "optimizer"])
def test_a_name_that_is_no_function(write: Write, name: str) -> None:
    path = write(**{name: f"number = 3\n{name} = number"})
    message = str(failure(path))
    assert message == f"toy.py: {name} is of type int, not a function: def {name}(...)"


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(write: Write, device: str) -> None:
    with pytest.raises(UsageError, match="cannot be used here"):
        load_workload(write()).session(0, device)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range(write: Write, seed: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        load_workload(write()).session(seed)
