"""What a flush brings to the host comes by one transfer from each device."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from precscope.facts import Site, SiteKind
from precscope.kernels import row
from precscope.kernels.fallback import observe_fallback
from precscope.monitor import Monitor, readback
from precscope.monitor.ledger import Ledger
from precscope.monitor.readback import HostReader
from precscope.monitor.rows import RowStore
from precscope.monitor.sitebook import SiteBook
from precscope.monitor.turnover import PendingStep
from precscope.monitor.updates import UpdateSampler
from tests.support.far_device import CUDA, META, FarTensor, far_device
from tests.support.memory_sink import MemorySink


def test_arrays_come_back_in_order_exactly() -> None:
    words = torch.tensor([[2**62 + 1, -1], [3, 4]])
    given = [
        words,
        torch.tensor(0.1),
        words[:, 1:],
        torch.tensor([1e-300], dtype=torch.float64),
        torch.empty(0, 3),
        torch.tensor(1.5, dtype=torch.bfloat16),
    ]
    with far_device() as (device, _, _):
        far = [FarTensor(tensor, META) for tensor in given]
        mixed = HostReader().read([far[0], given[1], *far[2:]])
    for found in (mixed, HostReader().read(given)):
        assert [a.shape for a in found] == [tuple(t.shape) for t in given]
        assert [a.dtype.kind for a in found] == ["i", "f", "i", "f", "f", "f"]
        for array, tensor in zip(found, given, strict=True):
            assert array.tolist() == tensor.tolist()
    assert device.transfers == [4 + 2 + 1 + 1]


def test_a_copy_is_not_the_memory_that_it_came_from() -> None:
    held = torch.ones(3, dtype=torch.int64)
    (found,) = HostReader().read([held])
    held.zero_()
    assert found.tolist() == [1, 1, 1]


def test_on_cuda_pinned_memory_is_used_again_and_one_event_is_waited_for() -> None:
    reader = HostReader()
    with far_device() as (device, events, pinned):
        first = reader.read([torch.full((5,), 7, device=CUDA), torch.full((), 0.5, device=CUDA)])
        again = reader.read([torch.full((8,), 9, device=CUDA)])
        assert pinned == [8]
        more = reader.read([torch.full((9,), 1, device=CUDA)])
    assert [a.tolist() for a in first] == [[7] * 5, 0.5]
    assert (again[0].tolist(), more[0].tolist()) == ([9] * 8, [1] * 9)
    assert device.transfers == [6, 8, 9]
    assert [event.waited for event in events] == [True] * 3
    assert (device.reads, pinned) == ([], [8, 16])


def test_nothing_is_read_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback, "is_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA graph"):
        HostReader().read([torch.ones(1)])


def sites(count: int) -> list[Site]:
    kinds: tuple[SiteKind, ...] = ("activation", "weight_gradient")
    return [Site(f"m{i}", kinds[i % 2], (3,), "float32", None, "Linear", i) for i in range(count)]


def flushed(device: torch.device, scaled: bool) -> MemorySink:
    """Three steps of seventy sites in four blocks, and of the updates of two parameters."""
    sink, store = MemorySink(), RowStore(4)
    entries = [SimpleNamespace(index=sink.add_site(site), site=site) for site in sites(70)]
    ledger = Ledger(sink, store, cast("SiteBook", SimpleNamespace(entries=entries)))
    rows = [store.new_row(e.index, device, e.site.kind != "activation") for e in entries]
    assert len(store.blocks) == 4
    weights = [nn.Parameter(torch.ones(n)) for n in (3, 300)]
    sampler = UpdateSampler([(str(i), w, {"lr": 0.1}) for i, w in enumerate(weights)])
    for step in range(3):
        for index, own in enumerate(rows):
            observe_fallback(torch.full((3,), float(step + index), device=device), own)
        sampler.before_step()
        with torch.no_grad():
            [w.add_(2.0**-12) for w in weights]
        sampler.after_step(step)
        loss = torch.full((), step + 0.25, device=device)
        scale = torch.full((), 4.0, device=device) if scaled else None
        skipped = torch.full((1,), float(step == 1), device=device) if scaled else False
        ledger.end_step(PendingStep(step, loss, scale, skipped))
    ledger.flush([sampler], {})
    return sink


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_a_flush_is_one_transfer_and_says_what_the_cpu_says(scaled: bool) -> None:
    expected = flushed(torch.device("cpu"), scaled)
    with far_device() as (device, _, _):
        found = flushed(META, scaled)
    assert len(device.transfers) == 1
    assert (device.reads, device.sends) == ([], 0)
    assert device.transfers[0] < 70 * (row.ROW_SLOTS + 1 + 2 * 3) + 3 * 3 + 1
    assert found.steps == expected.steps
    assert found.updates == expected.updates
    assert found.documents == expected.documents
    assert [s.loss for s in found.steps] == [0.25, 1.25, 2.25]
    assert [s.log2_scale for s in found.steps] == [2.0 * scaled] * 3
    assert found.steps[2].gradient_amax == 71.0 / (4.0 if scaled else 1.0)
    assert len(found.windows) == len(expected.windows) == 70
    for (site, ours), (other, theirs) in zip(found.windows, expected.windows, strict=True):
        assert (site, ours.observations) == (other, theirs.observations)
        assert np.array_equal(ours.histogram.counts, theirs.histogram.counts)
        assert ours.histogram.amax == theirs.histogram.amax


def test_a_second_flush_begins_at_nothing() -> None:
    store = RowStore(2)
    reader, own = HostReader(), store.new_row(0, torch.device("cpu"), False)
    for turn in range(2):
        observe_fallback(torch.tensor([3.0 + turn]), own)
        store.end_step(0)
        (taken,) = store.taken(iter(reader.read(store.filled(1))))
        store.empty()
        assert taken.rows[0, row.OBSERVATIONS] == 1
        assert taken.amax_log.tolist() == [[3.0 + turn]]


def test_a_learning_rate_that_moves_reads_nothing_in_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group: dict[str, object] = {"lr": 1.0}
    parameter = nn.Parameter(torch.ones(8))
    sampler = UpdateSampler([("w", parameter, group)])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a step read a tensor")

    with monkeypatch.context() as patch:
        for name in ("cpu", "numpy", "tolist", "item"):
            patch.setattr(torch.Tensor, name, refuse)
        for step in range(6):
            group["lr"] = 1.0 if step < 3 else 1e-3
            sampler.before_step()
            with torch.no_grad():
                parameter.add_(2.0**-9)
            sampler.after_step(step)
    windows = sampler.taken(iter(HostReader().read(sampler.filled())))
    assert [(w.first_step, w.last_step, w.learning_rate) for w in windows] == [
        (0, 2, 1.0),
        (3, 5, 1e-3),
    ]
    assert all(w.accumulated is not None and w.single[0].nonzero == 24 for w in windows)


def test_a_loss_that_is_not_finite_comes_back_as_it_is() -> None:
    model, sink = nn.Linear(2, 1), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    told = [float("nan"), float("inf"), 0.5]
    with Monitor(model, optimizer, sink) as monitor:
        for value in told:
            loss = model(torch.ones(1, 2)).sum()
            monitor.record_loss(torch.tensor(value, dtype=torch.bfloat16, requires_grad=True))
            loss.backward()
            optimizer.step()
    losses = [record.loss for record in sink.steps]
    assert losses[0] is not None
    assert math.isnan(losses[0])
    assert losses[1:] == [math.inf, 0.5]
