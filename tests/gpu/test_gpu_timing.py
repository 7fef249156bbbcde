"""Timing end to end on hardware: events, modules, kernels, NVML, and the document."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from precscope.analysis.timing import time_workload
from precscope.recipe import Recipe
from precscope.timing.clocks import CudaClock
from precscope.timing.module_clock import ModuleClock
from precscope.timing.steps import Plan, timed_steps
from tests.support.device_waits import nothing_waits
from tests.support.small_workload import small_workload

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda:0")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(256, 256), nn.ReLU(inplace=True), nn.Linear(256, 8)).cuda()


def test_module_times_add_up_and_no_step_waits() -> None:
    model, x = net(), torch.randn(64, 256, device="cuda")
    clock = CudaClock(CUDA, 64)
    with ModuleClock(model, clock) as modules:
        for step in range(6):
            with nothing_waits() if step else nullcontext(), modules.step():
                model(x).square().mean().backward()
    assert len(modules.steps) == 6
    last = modules.steps[-1]
    assert set(last.modules) == {"", "0", "1", "2"}
    assert all(m.forward_ms and m.backward_ms for m in last.modules.values())
    own = sum(module.self_ms for module in last.modules.values())
    # Where one backward ends and the next begins there are two marks, a few us apart.
    assert 0.99 * last.total_ms <= own + last.gap_ms <= 1.3 * last.total_ms


def test_events_agree_with_the_host_for_long_work() -> None:
    a = torch.randn(4096, 4096, device="cuda")
    clock = CudaClock(CUDA)
    found = timed_steps(lambda: a @ a @ a @ a, clock, Plan(steps=20, seconds=0.0))
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ a @ a @ a
    torch.cuda.synchronize()
    assert sum(found) == pytest.approx((time.perf_counter() - start) * 1e3, rel=0.25)


def test_events_are_used_again() -> None:
    clock = CudaClock(CUDA)
    timed_steps(lambda: torch.ones(1, device="cuda"), clock, Plan(steps=50, seconds=0.0))
    made = clock.made
    timed_steps(lambda: torch.ones(1, device="cuda"), clock, Plan(steps=50, seconds=0.0))
    assert clock.made == made


@pytest.mark.slow
def test_a_workload_is_timed_end_to_end(tmp_path: Path) -> None:
    plan = Plan(warm_up_steps=2, warm_up_s=0.2, steps=10, seconds=0.6, rounds=2)
    found = time_workload(
        small_workload(tmp_path), [], Recipe.named("fp16"), CUDA, seed=0, plan=plan
    )
    assert found["clock"] == "CUDA events"
    assert found["device"]["name"] == torch.cuda.get_device_name(0)
    assert [entry["recipe"] for entry in found["recipes"]] == ["fp32", "tf32", "fp16"]
    assert {module["module"] for module in found["modules"]} == {"", "0", "1", "2", "3", "4"}
    assert found["tensor_cores"]["step_ms"] > 0
    assert found["tensor_cores"]["unknown_kernel_ms"] is not None
    assert found["nvml"] or found["nvml_reason"]
