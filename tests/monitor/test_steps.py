"""Steps, schedules, windows, records, and what happens when an observer fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from precscope import kernels
from precscope.errors import UsageError
from precscope.monitor import Monitor, Schedule
from tests.support.memory_sink import MemorySink


def run(steps: int, micro_batches: int = 1, **kwargs: Any) -> MemorySink:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sink = MemorySink()
    with Monitor(model, optimizer, sink, **kwargs) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            for _ in range(micro_batches):
                loss = model(torch.randn(3, 4)).square().mean()
                monitor.record_loss(loss)
                loss.backward()
            optimizer.step()
    return sink


def test_schedule_observes_every_nth_step_from_start_to_stop() -> None:
    schedule = Schedule(every=3, start=2, stop=10)
    assert [s for s in range(15) if schedule(s)] == [2, 5, 8]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"start": -1}])
def test_a_wrong_schedule_names_the_value(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_an_unknown_kind_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="activation_gradient"):
        Monitor(nn.Linear(1, 1), None, MemorySink(), kinds=("gradients",))


def test_only_scheduled_steps_are_recorded() -> None:
    sink = run(7, schedule=Schedule(every=3))
    assert [s.step for s in sink.steps] == [0, 3, 6]
    assert sink.histogram("(root)", "activation").total == 3 * 6


def test_gradient_accumulation_is_one_step_and_every_partial_sum_is_seen() -> None:
    sink = run(2, micro_batches=3)
    assert [s.step for s in sink.steps] == [0, 1]
    assert sink.histogram("(root)", "activation").total == 2 * 3 * 6
    assert sink.histogram("weight", "weight_gradient").total == 2 * 3 * 8


def test_windows_hold_the_steps_they_were_told_to() -> None:
    sink = run(10, window_steps=4)
    spans = {(w.first_step, w.last_step) for _, w in sink.windows}
    assert spans == {(0, 3), (4, 7), (8, 9)}


def test_each_step_names_its_largest_gradient_and_loss() -> None:
    sink = run(5, window_steps=2)
    for record in sink.steps:
        assert record.loss is not None
        assert record.gradient_amax > 0
        assert record.gradient_amax_site is not None
        assert "gradient" in sink.sites[record.gradient_amax_site].kind
    largest = max(s.gradient_amax for s in sink.steps)
    kinds = {s.kind for s in sink.sites if "gradient" in s.kind}
    names = [(s.name, s.kind) for s in sink.sites if s.kind in kinds]
    assert largest == max(sink.histogram(n, k).amax for n, k in names)


def test_gradients_that_stay_in_float32_do_not_set_the_largest() -> None:
    dtypes = {("(root)", "activation_gradient"): "float32"}
    sink = run(1, autocast_dtypes=dtypes)
    site = sink.sites[sink.steps[0].gradient_amax_site or 0]
    assert site.name != "(root)"


def test_without_an_optimizer_a_step_ends_where_the_next_forward_begins() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    sink = MemorySink()
    with Monitor(model, None, sink):
        for _ in range(3):
            model(torch.randn(2, 3)).sum().backward()
    assert [s.step for s in sink.steps] == [0, 1, 2]


def test_a_failing_observer_is_disabled_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernels.observer

    def broken(row: torch.Tensor) -> kernels.Observer:
        observe = real(row)

        def observe_or_fail(tensor: torch.Tensor) -> None:
            if tensor.dim() == 2 and tensor.shape[1] == 5:
                raise RuntimeError("no such thing")
            observe(tensor)

        return observe_or_fail

    monkeypatch.setattr(kernels, "observer", broken)
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sink = MemorySink()
    with Monitor(model, optimizer, sink):
        for _ in range(3):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    errors = {e["where"]: e for e in sink.documents["coverage"]["observer_errors"]}
    assert errors["0"]["message"] == "RuntimeError: no such thing"
    assert errors["0"]["count"] == 1
    assert sink.histogram("1", "activation").total == 3 * 6


def test_a_failing_sink_does_not_stop_the_training() -> None:
    class Full(MemorySink):
        def flush(self) -> None:
            raise OSError("disk full")

    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, Full(), window_steps=1)
    for _ in range(2):
        model(torch.randn(1, 2)).sum().backward()
        optimizer.step()
    assert any("disk full" in str(e["message"]) for e in monitor.coverage()["observer_errors"])
    monitor.close()
    assert not model._forward_hooks


def test_a_module_whose_forward_raises_leaves_the_monitor_working() -> None:
    class Sometimes(nn.Module):
        fail = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.fail:
                raise ValueError("mine")
            return x * 2

    model = nn.Sequential(nn.Linear(2, 2), Sometimes())
    sink = MemorySink()
    with Monitor(model, None, sink):
        with pytest.raises(ValueError, match="mine"):
            model(torch.randn(1, 2))
        Sometimes.fail = False
        model(torch.randn(1, 2)).sum().backward()
    assert "1" in sink.names("activation")
