"""The kernel on hardware: the CPU's counts, any layout and size, and no wait in a step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from precscope.kernels import new_rows, observe, observe_many, row
from precscope.kernels.device import KINDS, why_no_kernel
from precscope.kernels.library import EIGHT_BIT
from precscope.monitor import Monitor, ledger
from precscope.monitor.sink import NullSink
from precscope.timing.profiling import traced
from tests.support.device_waits import nothing_waits

pytestmark = pytest.mark.gpu

SUMS = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
LAYOUTS = {
    "plain": lambda x: x,
    "one value": lambda x: x.flatten()[:1],
    "empty": lambda x: x[:0],
    "offset": lambda x: x.flatten()[1:],
    "transposed": lambda x: x.t(),
    "strided": lambda x: x[::3, ::2],
    "expanded": lambda x: x[:, :1].expand(-1, 65),
}


def values(rows: int = 301, columns: int = 77) -> torch.Tensor:
    spread = torch.linspace(-45, 14, rows * columns).exp2().reshape(rows, columns)
    found = torch.randn(rows, columns) * spread
    found[0, :6] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.0])
    return found


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    found, expected = found.cpu().clone(), expected.clone()
    torch.testing.assert_close(
        found[..., SUMS].view(torch.float64),
        expected[..., SUMS].view(torch.float64),
        rtol=1e-9,
        atol=0.0,
    )
    found[..., SUMS] = expected[..., SUMS] = 0
    assert torch.equal(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*KINDS, torch.float64, *EIGHT_BIT], ids=str)
def test_counts_are_those_of_the_cpu(dtype: torch.dtype, layout: str) -> None:
    tensor = values().to(dtype)
    expected, found = new_rows(1)[0], new_rows(1, "cuda")[0]
    observe(LAYOUTS[layout](tensor), expected)
    observe(LAYOUTS[layout](tensor.cuda()), found)
    assert_same(found, expected)


def test_it_was_the_kernel_that_counted() -> None:
    observe(torch.ones(3, device="cuda"), new_rows(1, "cuda")[0])
    assert why_no_kernel("cuda") is None


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [EIGHT_BIT[0], torch.float16], ids=str)
def test_more_than_two_to_the_31_values(dtype: torch.dtype) -> None:
    size = (1 << 31) + 4097
    tensor = torch.zeros(size, dtype=dtype, device="cuda")
    tensor[-1] = 2.0
    tensor[1 << 31] = 0.5
    found = new_rows(1, "cuda")[0]
    observe(tensor, found)
    counted = found.cpu()
    assert int(counted[row.ZEROS]) == size - 2
    assert int(counted[row.COUNTS + 149 + 1]) == int(counted[row.COUNTS + 149 - 1]) == 1
    assert float(counted.view(torch.float64)[row.AMAX]) == 2.0


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_many_in_one_launch(dtype: torch.dtype) -> None:
    tensors = [torch.randn(n).to(dtype) for n in (1, 77, 0, 4096, 70_000)]
    expected, found = new_rows(5), new_rows(5, "cuda")
    observe_many(tensors, list(expected))
    observe_many([tensor.cuda() for tensor in tensors], list(found))
    assert_same(found, expected)


def test_a_wait_is_noticed() -> None:
    with pytest.raises(AssertionError, match="waited"), nothing_waits():
        torch.cuda.current_stream().synchronize()
    with pytest.raises(RuntimeError), nothing_waits():
        torch.ones(1, device="cuda").item()
    assert torch.cuda.get_sync_debug_mode() == 0


def test_observing_waits_for_nothing() -> None:
    formats = [*KINDS, torch.float64, *EIGHT_BIT]
    tensors = [torch.randn(1000).to(dtype).cuda() for dtype in formats]
    rows = new_rows(len(tensors), "cuda")
    for turn in range(2):
        # The first time the kernels are compiled and the tables of 8-bit formats are made.
        with nothing_waits() if turn else nullcontext():
            for tensor, own in zip(tensors, rows, strict=True):
                observe(tensor, own)
            observe_many([tensors[1]] * 3, list(rows[:3]))
            observe(tensors[0].view(10, 100)[::3, ::2], rows[0])
    assert why_no_kernel("cuda") is None
    assert rows[:, row.OBSERVATIONS].tolist() == [6, 4, 4] + [2] * (len(tensors) - 3)


@pytest.mark.parametrize("log2_scale", [None, 10.0], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("every", [1, 3])
def test_an_observed_training_step_waits_for_nothing(
    every: int, log2_scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "FLUSH_SECONDS", 1e9)  # compiling takes a while
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Linear(64, 8)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(32, 64, device="cuda")
    factor = 1.0 if log2_scale is None else 2.0**log2_scale

    def step() -> None:
        with torch.autocast("cuda", torch.float16):
            loss = model(x).square().mean()
        (loss * factor).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    monitor = Monitor(
        model,
        optimizer,
        NullSink(),
        schedule=lambda step: step % every == 0,
        window_steps=64,
    )
    with monitor:
        if log2_scale is not None:
            monitor.record_log2_scale(log2_scale)
        for number in range(8):
            # The first steps compile the kernels and make the rows.
            with nothing_waits() if number > every else nullcontext():
                step()
    told: dict[str, Any] = monitor.coverage()
    assert told["observer_errors"] == []
    assert told["observed_steps"] == len(range(0, 8, every))
    assert why_no_kernel("cuda") is None


def test_a_flush_is_one_transfer() -> None:
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(40))).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(8, 16, device="cuda")
    with Monitor(model, optimizer, NullSink(), window_steps=64) as monitor:
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            loss = model(x).square().mean()
            monitor.record_loss(loss)
            loss.backward()
            optimizer.step()
        trace = traced(nn.Identity(), monitor.flush, 1)
    names = [event.name for event in trace.device]
    assert names, "the profiler saw nothing"
    assert [name for name in names if "DtoH" in name] == ["Memcpy DtoH (Device -> Pinned)"]


def test_a_training_pass_that_is_captured_is_left_alone_and_told() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(32, 64, device="cuda")

    def forward_backward() -> None:
        model(x).square().mean().backward()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with Monitor(model, optimizer, NullSink()) as monitor:
        with torch.cuda.stream(side):
            for _ in range(3):
                optimizer.zero_grad(set_to_none=True)
                forward_backward()
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            forward_backward()
        for _ in range(2):
            graph.replay()
            optimizer.step()
    told = monitor.coverage()
    assert told["observer_errors"] == []
    assert [entry["what"] for entry in told["tensors_skipped"]] == ["a training pass"]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_losses_and_weights_are_bit_identical_with_observers() -> None:
    found = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 8)).cuda()
        optimizer = torch.optim.AdamW(model.parameters())
        monitor = Monitor(model, optimizer, NullSink()) if watched else None
        x = torch.randn(32, 64, device="cuda")
        for _ in range(5):
            optimizer.zero_grad(set_to_none=True)
            model(x).square().mean().backward()
            optimizer.step()
        if monitor is not None:
            monitor.close()
        found.append([p.detach().clone() for p in model.parameters()])
    assert all(map(torch.equal, *found))


def test_a_captured_observation_counts_on_every_replay() -> None:
    x, found = torch.randn(10_000, device="cuda").half(), new_rows(1, "cuda")[0]
    observe(x, found)
    torch.cuda.synchronize()
    found.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        observe(x, found)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    once = new_rows(1)[0]
    for _ in range(3):
        observe(x.cpu(), once)
    assert_same(found, once)
