"""Marks of modules: on a clock that the test moves, and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from precscope.timing import clocks, module_clock
from precscope.timing.clocks import CpuClock
from precscope.timing.module_clock import ModuleClock


class TestedClock:
    """Each mark is one tick later; a mark comes when the test says so."""

    __test__ = False
    name = "ticks"

    def __init__(self) -> None:
        self.now = 0
        self.arrived = 10**9
        self.freed: list[int] = []
        self.waits = 0

    def mark(self) -> int:
        self.now += 1
        return self.now

    def is_done(self, mark: int) -> bool:
        return mark <= self.arrived

    def elapsed_ms(self, start: int, end: int) -> float:
        assert self.is_done(start)
        assert self.is_done(end)
        return float(end - start)

    def free(self, mark: int) -> None:
        self.freed.append(mark)

    def wait(self) -> None:
        self.waits += 1
        self.arrived = 10**9


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    )


def one_step(
    model: nn.Module, clock: Any, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> ModuleClock:
    with ModuleClock(model, clock) as modules, modules.step():
        (forward or model)(torch.randn(2, 4)).sum().backward()
    return modules


def test_every_module_has_a_forward_and_a_backward() -> None:
    (step,) = one_step(net(), TestedClock()).steps
    assert set(step.modules) == {"", "0", "1", "2", "2.0", "2.1"}
    for time in step.modules.values():
        assert time.forward_ms is not None
        assert time.backward_ms is not None


def test_what_is_inside_is_within_and_everything_adds_up() -> None:
    (step,) = one_step(net(), TestedClock()).steps
    root, inner = step.modules[""], step.modules["2"]
    assert root.forward_ms is not None
    assert inner.forward_ms is not None
    assert root.forward_ms > inner.forward_ms
    own = sum(time.self_ms for time in step.modules.values())
    # Where one backward ends the next one begins: two marks of one moment, a tick apart.
    assert step.total_ms <= own + step.gap_ms <= step.total_ms + len(step.modules)


def test_steps_are_read_when_they_have_come_and_nothing_waits() -> None:
    clock, model = TestedClock(), net()
    clock.arrived = 0
    with ModuleClock(model, clock) as modules:
        for _ in range(3):
            with modules.step():
                model(torch.randn(2, 4)).sum().backward()
        assert (modules.steps, clock.waits) == ([], 0)
        clock.arrived = clock.now
        with modules.step():
            model(torch.randn(2, 4)).sum().backward()
        assert len(modules.steps) == 3
    assert len(modules.steps) == 4
    assert clock.waits == 1


def test_every_mark_goes_back_to_the_pool() -> None:
    clock = TestedClock()
    one_step(net(), clock)
    assert sorted(clock.freed) == list(range(1, clock.now + 1))


def test_outside_a_step_nothing_is_marked() -> None:
    clock, model = TestedClock(), net()
    with ModuleClock(model, clock) as modules:
        model(torch.randn(2, 4)).sum().backward()
    assert (modules.steps, clock.now) == ([], 0)


def test_no_hook_is_left_and_gradients_are_the_same() -> None:
    model, x = net(), torch.randn(2, 4, requires_grad=True)
    model(x).sum().backward()
    expected = [p.grad.clone() for p in (*model.parameters(), x) if p.grad is not None]
    for p in (*model.parameters(), x):
        p.grad = None
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model(x).sum().backward()
    found = [p.grad for p in (*model.parameters(), x) if p.grad is not None]
    assert all(map(torch.equal, found, expected))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not x._backward_hooks
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_a_checkpointed_forward_is_recomputation() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(model, x, use_reentrant=False)

    (step,) = one_step(model, TestedClock(), forward).steps
    assert step.modules["0"].recomputed_ms > 0
    assert step.modules["0"].calls == 1


def test_an_exception_in_the_forward_passes_through_and_the_next_step_is_clean() -> None:
    model, clock = net(), TestedClock()
    with ModuleClock(model, clock) as modules:
        with pytest.raises(RuntimeError), modules.step():
            model(torch.randn(2, 5))
        with modules.step():
            model(torch.randn(2, 4)).sum().backward()
    assert modules.steps[-1].modules[""].calls == 1


def test_evaluation_has_no_backward() -> None:
    model = net()
    with ModuleClock(model, TestedClock()) as modules, modules.step(), torch.no_grad():
        model(torch.randn(2, 4))
    assert modules.steps[0].modules["0"].backward_ms is None


def test_two_calls_without_input_gradients_do_not_last_until_each_others_end() -> None:
    clock, shared, head = TestedClock(), nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.ModuleList([shared, head])
    with ModuleClock(model, clock) as modules, modules.step():
        first, second = shared(torch.randn(2, 4)), shared(torch.randn(2, 4))
        (head(first) + head(second)).sum().backward()
    found = modules.steps[0].modules["0"]
    assert found.calls == 2
    assert found.backward_ms is not None
    # A start and an end for each call; the head's backward of the other one lies between them.
    assert found.backward_ms <= 2 * 2


def test_a_model_whose_parts_are_called_alone() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Sequential(nn.Linear(4, 2))})
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model["b"](model["a"](torch.randn(2, 4))).sum().backward()
    assert set(modules.steps[0].modules) == {"a", "b", "b.0"}
    assert all(time.backward_ms for time in modules.steps[0].modules.values())


def test_while_a_graph_is_captured_nothing_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_clock, "is_capturing", lambda: True)
    clock = TestedClock()
    (step,) = one_step(net(), clock).steps
    assert step.modules == {}
    assert clock.now == 2


def test_events_come_from_a_pool_and_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[object] = []

    class Event:
        def record(self, stream: object) -> None:
            recorded.append(self)

        def query(self) -> bool:
            return True

    monkeypatch.setattr(clocks, "_event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    clock = clocks.CudaClock(torch.device("cuda:0"), events=1)
    first = clock.mark()
    second = clock.mark()
    assert clock.made == 2
    assert clock.is_done(second)
    clock.free(first)
    assert clock.mark() is first
    assert (clock.made, len(recorded)) == (2, 3)


def test_a_dict_in_and_out_is_seen() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, *, values: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"out": self.inner(values)}

    model = nn.Sequential(Named())
    x = torch.randn(2, 4, requires_grad=True)
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model[0](values=x)["out"].sum().backward()
    assert modules.steps[0].modules["0"].backward_ms is not None


def test_the_clock_of_the_host() -> None:
    (step,) = one_step(net(), CpuClock()).steps
    assert 0 < step.gap_ms < step.total_ms
    assert step.modules[""].self_ms >= 0
