"""Calls of modules that nest, fail, are repeated or go on in another step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from precscope.timing import clocks
from precscope.timing.module_clock import ModuleClock
from precscope.timing.profiling import traced
from tests.timing.test_module_clock import TestedClock, net


class Caught(nn.Module):
    """Its first part refuses the input; the second one takes over."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            out: torch.Tensor = self.first(x)
        except RuntimeError:
            out = self.second(x)
        return out


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = checkpoint(self.block, x, use_reentrant=False)
        return out


class Inner(nn.Module):
    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.embed = shared
        self.out = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(self.embed(x))
        return out


class Sharing(nn.Module):
    """A module that is named beside the one that calls it, as the embedding of T5 is."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.encoder = Inner(self.shared)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.encoder(x)
        return out


def test_an_exception_that_the_model_catches_loses_nobodys_times() -> None:
    model = nn.Sequential(Caught(), nn.Linear(4, 2))
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model(torch.randn(2, 4)).sum().backward()
    found = modules.steps[0].modules
    assert set(found) == {"", "0", "0.first", "0.second", "1"}
    assert found["0.first"].backward_ms is None
    assert all(found[name].backward_ms for name in ("", "0", "0.second", "1"))


def test_a_checkpoint_that_stops_early_has_repeated_what_it_repeated() -> None:
    """The repeated forward ends with an exception once everything that is needed is there."""
    model = Checkpointed()
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model(torch.randn(2, 4)).sum().backward()
    found = modules.steps[0].modules
    inside = sum(found[f"block.{i}"].recomputed_ms for i in range(3))
    assert inside > 0
    assert found["block"].recomputed_ms > inside


def test_the_ranges_of_a_checkpoint_end_where_it_stops() -> None:
    """One that stayed open would take in all that follows: here another step."""
    model = Checkpointed()

    def step() -> None:
        model(torch.randn(2, 4)).sum().backward()
        torch.ones(3).cumsum(0)

    trace = traced(model, step, 2)
    sums = [e for e in trace.host if e.name == "aten::cumsum"]
    ranges = [e for e in trace.host if e.is_range]
    assert len(sums) == 2
    assert len(ranges) > 2 * 5
    assert not [r for r in ranges for s in sums if r.start_us < s.start_us < r.end_us]


def test_a_graph_that_is_kept_for_the_next_step_adds_nothing_to_its_own() -> None:
    clock, model = TestedClock(), net()
    clock.arrived = 0
    with ModuleClock(model, clock) as modules:
        with modules.step():
            loss = model(torch.randn(2, 4)).sum()
        with modules.step():
            loss.backward()
    first, second = modules.steps
    assert all(time.backward_ms is None for time in first.modules.values())
    assert second.modules == {}
    assert sorted(clock.freed) == list(range(1, clock.now + 1))


def test_a_module_that_is_called_by_another_than_its_parent_is_counted_once() -> None:
    model = Sharing()
    with ModuleClock(model, TestedClock()) as modules, modules.step():
        model(torch.randn(2, 4)).sum().backward()
    (step,) = modules.steps
    own = sum(time.self_ms for time in step.modules.values())
    assert step.total_ms <= own + step.gap_ms <= step.total_ms + len(step.modules)


def test_events_are_all_of_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of a model on two devices runs while the other one is current."""
    recorded: list[str] = []

    class Event:
        def record(self, stream: str) -> None:
            recorded.append(stream)

    monkeypatch.setattr(clocks, "_event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    clocks.CudaClock(torch.device("cuda:1")).mark()
    assert recorded == ["stream of cuda:1"]
