"""What a monitor must not do to a training: leave hooks, warn, raise, slow down, count wrongly."""

from __future__ import annotations

import copy
import io
import shutil
import time
import warnings
from collections import Counter as Counts
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import precscope
from precscope.facts import StepRecord, Window
from precscope.monitor import Monitor
from precscope.monitor.rows import RowStore
from precscope.monitor.sink import NullSink
from precscope.monitor.sitebook import Counter, SiteBook
from tests.support.memory_sink import MemorySink

Several = Callable[[Optimizer], Any]


class Prompt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.ones(3))

    def forward(self) -> torch.Tensor:
        return self.prompt


class Prompted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prompt, self.head = Prompt(), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x + self.prompt())
        return out


def train(
    model: nn.Module, optimizer: Optimizer, steps: int, monitor: Monitor | None = None
) -> None:
    features = next(model.parameters()).shape[-1]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(torch.ones(2, features, dtype=torch.float32)).square().sum()
        loss.backward()
        if monitor is not None:
            monitor.record_loss(loss)
        optimizer.step()


def sgd(model: nn.Module) -> Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01)


def test_a_parameter_that_a_module_returns_keeps_no_hook_and_is_counted_once_a_step() -> None:
    model, sink = Prompted(), MemorySink()
    optimizer = sgd(model)
    with Monitor(model, optimizer, sink):
        train(model, optimizer, 5)
        assert not model.prompt.prompt._backward_hooks
    assert sink.histogram("prompt", "activation_gradient").total == 5 * 3


class Prepared(Optimizer):
    """As Accelerate prepares one: an Optimizer by its class, and never initialised as one."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer


@pytest.mark.parametrize(
    "several",
    [
        lambda optimizer: iter([optimizer]),
        lambda optimizer: [optimizer, optimizer],
        lambda optimizer: SimpleNamespace(optimizer=optimizer),
        lambda optimizer: [SimpleNamespace(optimizer=optimizer)],
        Prepared,
    ],
    ids=["an iterator", "twice", "a wrapper", "wrappers", "prepared"],
)
def test_each_optimizer_counts_its_steps_once(tmp_path: Path, several: Several) -> None:
    model = nn.Linear(2, 2)
    optimizer = sgd(model)
    with precscope.watch(model, several(optimizer), path=tmp_path / "run.precscope", every=1) as w:
        for _ in range(3):
            model(torch.ones(1, 2)).sum().backward()  # two micro-batches are one step
            train(model, optimizer, 1)
    recording = precscope.Recording.open(w.path)
    assert [s.step for s in recording.steps] == [0, 1, 2]
    assert recording.updates


def test_a_recorded_loss_is_that_of_its_step_whatever_becomes_of_the_tensor() -> None:
    model, sink = nn.Linear(2, 2), MemorySink()
    optimizer, running = sgd(model), torch.zeros(())
    with Monitor(model, optimizer, sink) as monitor:
        for _ in range(3):
            running += 1.0
            monitor.record_loss(running)
            train(model, optimizer, 1)
        running.zero_()
    assert [s.loss for s in sink.steps] == [1.0, 2.0, 3.0]


def test_a_deep_copy_of_a_watched_model_has_no_hook() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))
    model.register_forward_hook(user_hook)
    with Monitor(model, None, MemorySink()):
        copied = copy.deepcopy(model)
        assert all(module._forward_hooks for module in model.modules())
    assert [hook for m in copied.modules() for hook in m._forward_hooks.values()] == [user_hook]
    assert not any(module._forward_pre_hooks for module in copied.modules())


def user_hook(module: nn.Module, inputs: Any, output: Any) -> None:
    """A hook of the user's stays in the copy."""


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_copy_can_be_scripted_and_the_watched_model_says_so() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    x = torch.ones(1, 2)
    with Monitor(model, None, MemorySink()):
        assert torch.equal(torch.jit.script(copy.deepcopy(model))(x), model(x))
        with pytest.raises(AttributeError, match=r"precscope watches.*copy\.deepcopy"):
            torch.jit.script(model)


def test_who_saves_an_output_is_not_warned_of_a_hook() -> None:
    model = nn.Linear(2, 2)
    with Monitor(model, None, MemorySink()), warnings.catch_warnings():
        warnings.simplefilter("error")
        output = model(torch.ones(1, 2))
        assert output._backward_hooks
        torch.save(output, io.BytesIO())


class StopTrainingError(Exception):
    """What the user's code raises."""


@pytest.mark.parametrize("error", [None, StopTrainingError, KeyboardInterrupt])
def test_a_folder_that_is_gone_costs_a_warning_and_not_the_training(
    tmp_path: Path, error: type[BaseException] | None
) -> None:
    folder, model = tmp_path / "runs", nn.Linear(2, 2)
    folder.mkdir()
    optimizer = sgd(model)

    def training() -> None:
        with precscope.watch(model, optimizer, path=folder / "run.precscope", every=1):
            train(model, optimizer, 2)
            shutil.rmtree(folder)
            train(model, optimizer, 2)
            if error is not None:
                raise error

    expected = pytest.raises(error) if error else nullcontext()
    with pytest.warns(UserWarning, match="Recording is not complete: cannot write"), expected:
        training()
    assert not any(module._forward_hooks for module in model.modules())


def test_what_cannot_be_written_is_not_tried_again_at_every_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.seconds)
    flushes = []

    class FullDisk(MemorySink):
        def flush(self) -> None:
            flushes.append(clock.seconds)
            raise OSError("no space left on device")

    model = nn.Linear(2, 2)
    optimizer = sgd(model)
    with Monitor(model, optimizer, FullDisk(), window_steps=1000):
        for _ in range(30):
            clock.seconds += 1.0
            train(model, optimizer, 1)
        assert flushes == [11.0, 22.0]


def test_a_module_that_is_called_on_two_devices_in_turn_has_one_row_on_each() -> None:
    rows = RowStore(4)
    counter = Counter(SiteBook(NullSink(), rows, {}), "act", "activation", "ReLU")
    met: Iterable[torch.Tensor] = [torch.ones(2), torch.ones(2, device="meta")] * 50
    used = [counter.entry(tensor, tensor).row for tensor in met]
    assert len({id(row) for row in used}) == 2
    assert sum(len(block.sites) for block in rows.blocks) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_retention_does_not_depend_on_the_default_dtype(dtype: torch.dtype) -> None:
    def updates() -> list[Any]:
        torch.manual_seed(0)
        model, sink = nn.Linear(8, 8, dtype=torch.float32), MemorySink()
        optimizer = sgd(model)
        with Monitor(model, optimizer, sink):
            train(model, optimizer, 3)
        return sink.updates

    expected = updates()
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert updates() == expected
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("at", [1, 4, 15])
def test_an_interrupted_flush_loses_no_step(at: int) -> None:
    class Interrupted(MemorySink):
        told = 0

        def add_window(self, site_id: int, window: Window) -> None:
            super().add_window(site_id, window)
            self.interrupt()

        def add_step(self, record: StepRecord) -> None:
            super().add_step(record)
            self.interrupt()

        def interrupt(self) -> None:
            self.told += 1
            if self.told == at:
                raise KeyboardInterrupt

    model, sink = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), Interrupted()
    optimizer = sgd(model)
    with Monitor(model, optimizer, sink) as monitor:
        train(model, optimizer, 3)
        with pytest.raises(KeyboardInterrupt):
            monitor.flush()
        train(model, optimizer, 2)
    assert [s.step for s in sink.steps] == [0, 1, 2, 3, 4]
    assert all(s.gradient_amax > 0.0 for s in sink.steps)
    told = Counts(index for index, window in sink.windows for _ in range(window.observations))
    assert set(told.values()) == {5}


def test_updates_follow_the_groups_of_the_optimizer() -> None:
    model, sink = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), MemorySink()
    optimizer = torch.optim.SGD(model[0].parameters(), 0.5)
    with Monitor(model, optimizer, sink):
        train(model, optimizer, 1)
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.param_groups[0]["lr"] = 0.01
        train(model, optimizer, 1)
        optimizer.add_param_group({"params": list(model[1].parameters()), "lr": 0.02})
        train(model, optimizer, 1)
    rates = {(u.parameter, u.first_step): u.learning_rate for u in sink.updates}
    assert [rates[("0.weight", step)] for step in range(3)] == [0.5, 0.01, 0.01]
    assert rates[("1.weight", 2)] == 0.02


def replace_a_parameter(model: nn.Sequential, optimizer: Optimizer) -> None:
    model[0].weight = nn.Parameter(torch.ones(2, 2))
    optimizer.param_groups[0]["params"] = list(model.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda monitor, model, optimizer: monitor.flush(),
        lambda monitor, model, optimizer: replace_a_parameter(model, optimizer),
        lambda monitor, model, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
    ],
    ids=["a flush", "a new parameter", "new groups"],
)
def test_a_flush_in_the_middle_of_a_step_leaves_the_step_its_largest_gradient(
    change: Callable[[Monitor, nn.Sequential, Optimizer], None],
) -> None:
    model, sink = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), MemorySink()
    optimizer = sgd(model)
    largest, kinds = [], ["weight_gradient", "weight_update"]
    with Monitor(model, optimizer, sink, kinds=kinds) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 2)).square().sum().backward()
            if step == 1:
                change(monitor, model, optimizer)
            seen = [p.grad.abs().max().item() for p in model.parameters() if p.grad is not None]
            largest.append(max(seen))
            optimizer.step()
    assert [s.gradient_amax for s in sink.steps] == pytest.approx(largest)


def test_parameters_that_come_after_watching_began_are_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    with Monitor(model, None, MemorySink()) as monitor:
        model.append(nn.Linear(2, 2, bias=False))
        nn.utils.parametrizations.weight_norm(model[0])
        model(torch.ones(1, 2)).sum().backward()
    skipped = {t["what"]: t["reason"] for t in monitor.coverage()["tensors_skipped"]}
    added = ("1.weight", *(f"0.parametrizations.weight.original{i}" for i in (0, 1)))
    assert skipped == dict.fromkeys(added, "added to the model after watching began")
