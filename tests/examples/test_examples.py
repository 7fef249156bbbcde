from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.errors import WorkloadError
from precscope.workload import Session, check_batches_repeat, check_first_loss, load_workload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
STEPS = {"digits_cnn": 10, "python_lm": 6, "small_lr_mlp": 100, "vocab_lm": 4}


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_four_examples_are_there() -> None:
    assert sorted(STEPS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_learns_in_a_few_steps(name: str) -> None:
    session = load_workload(EXAMPLES / f"{name}.py").session(0)
    first = check_first_loss(session)
    check_batches_repeat(session)
    before = session.evaluate()
    probe = next(session.batches())
    for batch in itertools.islice(session.batches(), STEPS[name]):
        _step(session, batch)
    assert session.loss(probe).item() < first
    assert set(before) == set(session.evaluate())
    assert all(0.0 <= value <= 1.0 for value in before.values())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_names_its_optimizer_and_metric(name: str) -> None:
    workload = load_workload(EXAMPLES / f"{name}.py")
    assert not workload.default_optimizer
    assert workload.evaluate is not None


@pytest.mark.parametrize("name", ["digits_cnn", "small_lr_mlp"])
def test_without_scikit_learn_the_digits_say_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    session = load_workload(EXAMPLES / f"{name}.py").session(0)
    with pytest.raises(WorkloadError, match="come with scikit-learn: pip install scikit-learn"):
        next(session.batches())


def _step(session: Session, batch: Any) -> None:
    session.optimizer.zero_grad()
    session.loss(batch).backward()
    session.optimizer.step()
