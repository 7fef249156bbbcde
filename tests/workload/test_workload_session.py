from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from precscope.errors import WorkloadError
from precscope.workload import Session, check_batches_repeat, check_first_loss, load_workload
from precscope.workload.randomness import RandomStream, capture

Write = Callable[..., Path]

DROPOUT = """def model():
    return torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
"""
THREE_GENERATORS = """import random, numpy as np
def batches():
    for _ in range(3):
        yield torch.randn(4, 3) + np.random.rand() + random.random()
"""


def train(session: Session, steps: int, draws: int = 0) -> list[float]:
    losses = []
    for batch in itertools.islice(session.batches(), steps):
        torch.rand(draws)
        loss = session.loss(batch)
        session.optimizer.zero_grad()
        loss.backward()
        session.optimizer.step()
        losses.append(loss.item())
    return losses


def take(batches: Iterator[Any], count: int) -> list[Any]:
    return list(itertools.islice(batches, count))


def all_equal(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_same_seed_gives_the_same_training_bit_for_bit(write: Write) -> None:
    workload = load_workload(write(model=DROPOUT, batches=THREE_GENERATORS))
    first, second, other = (workload.session(seed) for seed in (3, 3, 4))
    assert first.model is not second.model
    runs = [train(workload.session(seed), 8) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert all_equal(list(first.model.parameters()), list(second.model.parameters()))
    assert not torch.equal(next(first.model.parameters()), next(other.model.parameters()))


def test_batches_are_the_same_whatever_the_training_draws(write: Write) -> None:
    workload = load_workload(write(model=DROPOUT, batches=THREE_GENERATORS))
    seen: list[list[torch.Tensor]] = []
    for draws in (0, 1, 1000):
        session = workload.session(5)
        batches = session.batches()
        seen.append([])
        for _ in range(7):
            torch.rand(draws)
            np.random.rand(draws)  # noqa: NPY002
            seen[-1].append(next(batches))
            session.loss(seen[-1][-1])
    assert all_equal(seen[0], seen[1])
    assert all_equal(seen[0], seen[2])


def test_training_stream_is_the_same_whatever_the_batches_draw(write: Write) -> None:
    greedy = (
        "def batches():\n    while True:\n        torch.rand(99)\n        yield torch.ones(5, 3)"
    )
    plain = "def batches():\n    return [torch.ones(5, 3)]"
    runs = [
        train(load_workload(write(model=DROPOUT, batches=source)).session(1), 5)
        for source in (greedy, plain)
    ]
    assert runs[0] == runs[1]


def test_batches_go_on_when_they_end_with_a_new_shuffle(write: Write) -> None:
    session = load_workload(write(batches=THREE_GENERATORS)).session(0)
    seen = take(session.batches(), 7)
    assert len({tuple(batch.flatten().tolist()) for batch in seen}) == 7


def test_every_call_of_batches_starts_over(write: Write) -> None:
    session = load_workload(write(batches=THREE_GENERATORS)).session(0)
    first = session.batches()
    head = take(first, 2)
    second = take(session.batches(), 4)
    assert all_equal(head + take(first, 2), second)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_data_loader_is_an_iterable_of_batches(write: Write, shuffle: bool) -> None:
    source = f"""from torch.utils.data import DataLoader
def batches():
    return DataLoader(torch.arange(12.0).view(4, 3), batch_size=2, shuffle={shuffle})
"""
    session = load_workload(write(batches=source)).session(0)
    assert all_equal(take(session.batches(), 5), take(session.batches(), 5))


def test_the_model_trains_in_train_mode_on_the_device(write: Write) -> None:
    session = load_workload(
        write(model=DROPOUT.replace("return ", "return (") + ").eval()")
    ).session(0)
    assert all(module.training for module in session.model.modules())
    assert session.device == torch.device("cpu")


def test_batches_are_moved_whatever_holds_them(write: Write) -> None:
    source = """from typing import NamedTuple
class Pair(NamedTuple):
    x: object
    name: str
def batches():
    yield {"pair": Pair(torch.ones(2, 3), "a"), "list": [torch.ones(1), (torch.ones(1), 3)]}
"""
    session = load_workload(write(batches=source)).session(0, "meta")
    batch = next(session.batches())
    assert batch["pair"].x.is_meta
    assert batch["pair"].name == "a"
    assert batch["list"][0].is_meta
    assert batch["list"][1][0].is_meta
    assert batch["list"][1][1] == 3


def test_evaluate_is_in_eval_mode_and_leaves_no_trace(write: Write) -> None:
    source = """def evaluate(model):
    assert not model.training and not torch.is_grad_enabled()
    torch.rand(50)
    return {"score": torch.tensor(0.25), "count": 3}
"""
    session = load_workload(write(model=DROPOUT, evaluate=source)).session(0)
    frozen = next(module for module in session.model.modules() if not list(module.children()))
    frozen.eval()
    before = torch.get_rng_state()
    assert session.evaluate() == {"score": 0.25, "count": 3.0}
    assert session.model.training
    assert not frozen.training
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluate_draws_the_same_every_time(write: Write) -> None:
    source = "def evaluate(model):\n    return {'draw': torch.rand(())}"
    session = load_workload(write(evaluate=source)).session(0)
    assert session.evaluate() == session.evaluate()


def test_a_file_without_evaluate_has_no_metrics(write: Write) -> None:
    assert load_workload(write()).session(0).evaluate() == {}


def test_train_mode_returns_after_a_failed_evaluate(write: Write) -> None:
    session = load_workload(write(evaluate="def evaluate(model):\n    1 / 0")).session(0)
    with pytest.raises(WorkloadError, match="ZeroDivisionError"):
        session.evaluate()
    assert session.model.training


def test_a_loss_needs_no_gradient_where_they_are_disabled(write: Write) -> None:
    session = load_workload(write()).session(0)
    with torch.no_grad():
        assert session.loss(torch.ones(5, 3)).item() >= 0


def test_checking_the_first_loss_leaves_no_trace(write: Write) -> None:
    workload = load_workload(write(model=DROPOUT, batches=THREE_GENERATORS))
    checked = workload.session(2)
    value = check_first_loss(checked)
    assert all(parameter.grad is None for parameter in checked.model.parameters())
    losses = train(checked, 6)
    plain = workload.session(2)
    assert train(plain, 6) == losses
    assert value == losses[0]
    assert all_equal(list(checked.model.buffers()), list(plain.model.buffers()))


def test_batches_that_repeat_pass_the_check(write: Write) -> None:
    cached = """from functools import cache
@cache
def data():
    return torch.randn(8, 3)
def batches():
    order = torch.randperm(len(data()))
    return [data()[order]]
"""
    for source in (THREE_GENERATORS, cached):
        check_batches_repeat(load_workload(write(batches=source)).session(0))


def test_a_generator_that_outlives_the_call_fails_the_check(write: Write) -> None:
    source = """own = torch.Generator().manual_seed(0)
def batches():
    while True:
        yield torch.randn(2, 3, generator=own)
"""
    session = load_workload(write(batches=source)).session(0)
    with pytest.raises(WorkloadError, match="under the same seed: create its generators"):
        check_batches_repeat(session)


def test_nan_in_a_batch_still_repeats(write: Write) -> None:
    source = "def batches():\n    return [torch.tensor([[float('nan'), 1.0, 2.0]])]"
    check_batches_repeat(load_workload(write(batches=source)).session(0))


def test_a_stream_is_continuous_across_interruptions() -> None:
    cpu = torch.device("cpu")
    whole, parts = RandomStream(9, cpu), RandomStream(9, cpu)
    with whole:
        expected = torch.randn(20)
    pieces = []
    for _ in range(5):
        torch.rand(3)
        with parts:
            pieces.append(torch.randn(4))
    assert not torch.equal(expected[:4], expected[4:8])
    with RandomStream(9, cpu):
        assert all_equal(pieces, [torch.randn(4) for _ in range(5)])


def test_a_stream_gives_the_global_state_back_after_an_error() -> None:
    cpu = torch.device("cpu")
    before = capture(cpu)
    with pytest.raises(ZeroDivisionError), RandomStream(1, cpu):
        torch.rand(1).item() / 0
    assert torch.equal(capture(cpu).torch_cpu, before.torch_cpu)
    assert capture(cpu).python == before.python
