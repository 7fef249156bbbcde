"""The kernel on hardware: the CPU's counts, any layout and size, and no wait in a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from precscope.kernels import new_rows, observe, observe_many, row
from precscope.kernels.device import KINDS, why_no_kernel
from precscope.kernels.library import EIGHT_BIT
from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink

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


@contextmanager
def no_wait() -> Iterator[None]:
    """Whatever makes the host wait for the device raises."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


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


def test_observing_waits_for_nothing() -> None:
    tensors = [torch.randn(1000, device="cuda", dtype=dtype) for dtype in KINDS]
    rows = new_rows(3, "cuda")
    for _ in range(2):
        with no_wait():
            for tensor, own in zip(tensors, rows, strict=True):
                observe(tensor, own)
            observe_many([tensors[1]] * 3, list(rows))
        torch.cuda.synchronize()


@pytest.mark.parametrize("every", [1, 3])
def test_an_observed_training_step_waits_for_nothing(every: int) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Linear(64, 8)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(32, 64, device="cuda")
    steps_between_flushes = 64
    with Monitor(
        model,
        optimizer,
        NullSink(),
        schedule=lambda step: step % every == 0,
        window_steps=steps_between_flushes,
    ):
        for step in range(8):
            # The first steps compile the kernels and make the rows.
            with no_wait() if step >= 2 else nullcontext():
                with torch.autocast("cuda", torch.float16):
                    loss = model(x).square().mean()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


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
