"""A watched step reads nothing back to the host: on a GPU every read would wait for the device.

Counted on the CPU, by operator and by method, against the same step unwatched. Kernels of the
CPU read memory by its address; the second half of the cases runs what other devices run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from precscope import kernels
from precscope.kernels.fallback import observe_fallback
from precscope.monitor import Monitor
from tests.support.host_reads import counted_host_reads
from tests.support.memory_sink import MemorySink

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "fused adamw": lambda p: torch.optim.AdamW(p, 1e-3, fused=True),
}
WARM_STEPS, STEPS = 3, 4


def reads(build: Callable[..., torch.optim.Optimizer], scaled: bool, watched: bool) -> Counter[str]:
    """Host reads of four steps, after three in which sites are met and a scaler is found."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    optimizer, sink = build(model.parameters()), MemorySink()
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, enabled=scaled)
    monitor = Monitor(model, optimizer, sink) if watched else None

    def step() -> None:
        optimizer.zero_grad()
        loss = model(torch.randn(3, 4)).square().mean()
        if monitor is not None:
            monitor.record_loss(loss)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    for _ in range(WARM_STEPS):
        step()
    with counted_host_reads() as found:
        for _ in range(STEPS):
            step()
        # A read that is there whether we watch or not is the user's own.
        found = Counter(found)
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
        assert len(sink.steps) == WARM_STEPS + STEPS
        assert sink.updates[0].steps > STEPS
    return found


def fallback_observer(row: torch.Tensor) -> kernels.Observer:
    return partial(observe_fallback, row=row)


def one_by_one(tensors: list[torch.Tensor], rows: list[torch.Tensor]) -> None:
    for tensor, row in zip(tensors, rows, strict=True):
        observe_fallback(tensor, row)


def test_the_counter_sees_every_way_of_reading() -> None:
    value = torch.tensor([1.0])
    with counted_host_reads() as found:
        ways: list[object] = [
            float(value),
            value.item(),
            value.tolist(),
            bool(value),
            value.equal(value),
        ]
        ways += [value.numpy(), value.nonzero(), int(value), value.cpu()]
    methods = {name for name in found if name.startswith("Tensor.")}
    assert methods == {
        *("Tensor.__float__", "Tensor.item", "Tensor.tolist", "Tensor.__bool__"),
        *("Tensor.numpy", "Tensor.__int__", "Tensor.cpu"),
    }
    assert {"aten._local_scalar_dense", "aten.equal", "aten.nonzero"} <= set(found)
    assert len(ways) == 9


@pytest.mark.parametrize("device_kernel", [False, True], ids=["cpu kernel", "device kernel"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_watched_step_reads_nothing_from_the_device(
    name: str, scaled: bool, device_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device_kernel:
        monkeypatch.setattr(kernels, "observer", fallback_observer)
        monkeypatch.setattr(kernels, "observer_of_many", lambda rows: None)
        monkeypatch.setattr(kernels, "observe_many", one_by_one)
    plain = reads(OPTIMIZERS[name], scaled, watched=False)
    assert reads(OPTIMIZERS[name], scaled, watched=True) == plain
