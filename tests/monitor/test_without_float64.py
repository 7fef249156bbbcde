"""Watching on a device without float64: counted on the CPU, the same as if it all were there."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from precscope.kernels.launching import counting_device
from precscope.monitor import Monitor, tensors
from tests.support.memory_sink import MemorySink
from tests.support.without_float64 import MPS, OnMps, moved


@pytest.fixture(autouse=True)
def known_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    # The pretended tensors are wrappers; those of a real device have memory.
    monkeypatch.setattr(tensors, "_is_wrapper", lambda tensor: False)


def trained(
    place: Callable[[nn.Module], nn.Module], tensor: Callable[[torch.Tensor], torch.Tensor]
) -> MemorySink:
    torch.manual_seed(0)
    model = place(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, foreach=False)
    scaler = SimpleNamespace(
        _scale=tensor(torch.tensor(8.0)), is_enabled=lambda: True, _per_optimizer_states={}
    )
    sink = MemorySink()
    with Monitor(model, optimizer, sink, scaler=scaler) as monitor:
        for _ in range(3):
            loss = model(tensor(torch.randn(3, 4))).sum()
            monitor.record_loss(loss)
            (loss * 8.0).backward()
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.div_(8.0)
            optimizer.step()
            optimizer.zero_grad()
    return sink


def test_everything_is_seen_and_the_same_as_on_the_cpu() -> None:
    here = trained(lambda model: model, lambda tensor: tensor)
    there = trained(moved, OnMps)
    assert there.documents["coverage"] == here.documents["coverage"]
    assert there.documents["coverage"]["observer_errors"] == []
    assert there.sites == here.sites
    assert len(there.windows) == len(here.windows) > 10
    for (site, found), (expected_site, expected) in zip(there.windows, here.windows, strict=True):
        assert (site, found.observations) == (expected_site, expected.observations)
        assert found.histogram.counts.tolist() == expected.histogram.counts.tolist()
        assert found.histogram.amax == expected.histogram.amax
    assert there.steps == here.steps
    assert {step.log2_scale for step in there.steps} == {3.0}
    assert there.updates == here.updates
    assert len(there.updates) == 4


def test_only_devices_without_float64_are_counted_elsewhere() -> None:
    cpu = torch.device("cpu")
    assert counting_device(MPS) == counting_device(cpu) == cpu
    for device in (torch.device("cuda:1"), torch.device("meta")):
        assert counting_device(device) == device
