"""From a trace to kernels with operator and module: host events are real, kernels are put in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from precscope.timing.attribution import OPTIMIZER, OUTSIDE, Kernel, attribute, by_module
from precscope.timing.profiling import module_ranges, traced
from precscope.timing.trace import DeviceEvent, busy_us, parse_trace
from tests.timing.kernels_in_trace import with_kernels

HOPPER = (9, 0)
KERNELS = {
    "aten::addmm": "sm80_xmma_gemm_tf32f32_tf32f32_f32_tn_n_tilesize128x128x16_stage4",
    "aten::mm": "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize128x128x8_stage3_ffma",
    "aten::relu": "void at::native::vectorized_elementwise_kernel<4>",
    "aten::sum": "my_sum",
    "aten::_fused_adam_": "void at::native::multi_tensor_apply_kernel<Adam>",
    "aten::addcdiv_": "void at::native::elementwise_kernel<128>",
}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Sequential(nn.Linear(16, 6)))
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    with (
        module_ranges(model),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiler,
    ):
        model(torch.randn(32, 8)).sum().backward()
        optimizer.step()
    profiler.export_chrome_trace(str(path))
    found: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    assert not any(module._forward_hooks for module in model.modules())
    return found


def kernels(
    events: list[dict[str, Any]], tf32: bool = True, by_launch: bool = False
) -> list[Kernel]:
    named = with_kernels(events, lambda name, _: KERNELS.get(name), by_launch)
    return attribute(parse_trace(named), HOPPER, tf32)


@pytest.mark.parametrize("by_launch", [False, True])
def test_forward_kernels_belong_to_the_innermost_module(
    events: list[dict[str, Any]], by_launch: bool
) -> None:
    found = [k for k in kernels(events, by_launch=by_launch) if k.operator == "aten::addmm"]
    assert [(k.module, k.is_backward) for k in found] == [("0", False), ("2.0", False)]


@pytest.mark.parametrize("by_launch", [False, True])
def test_backward_kernels_belong_to_the_module_of_their_forward(
    events: list[dict[str, Any]], by_launch: bool
) -> None:
    found = [k for k in kernels(events, by_launch=by_launch) if k.operator == "aten::mm"]
    assert [(k.module, k.is_backward) for k in found] == [("2.0", True)] * 2 + [("0", True)]


def test_a_forward_repeated_by_a_checkpoint_is_that_of_its_module(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    path = tmp_path / "trace.json"
    with (
        module_ranges(model),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiler,
    ):
        checkpoint(model, torch.randn(4, 8), use_reentrant=False).sum().backward()
    profiler.export_chrome_trace(str(path))
    found = kernels(json.loads(path.read_text())["traceEvents"])
    forward = [k.module for k in found if k.operator == "aten::addmm"]
    assert forward == ["0", "2", "0", "2"]


def on_a_thread_of_its_own(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The backward as CUDA has it: another thread, whose own forwards count from zero."""
    begun = min(e["ts"] for e in events if str(e.get("name")).startswith("autograd::engine"))
    found = []
    for event in events:
        if event.get("ts", 0.0) >= begun and event.get("cat") in (
            *("cpu_op", "user_annotation", "fwdbwd"),
        ):
            event = {**event, "tid": 99}
        found.append(event)
    forwards = [e for e in found if e.get("tid") == 99 and _repeated(e)]
    first = min(e["args"]["Sequence number"] for e in forwards)
    for event in forwards:
        event["args"] = {
            **event["args"],
            "Sequence number": event["args"]["Sequence number"] - first,
        }
    return found


def _repeated(event: dict[str, Any]) -> bool:
    args = event.get("args", {})
    return "Sequence number" in args and not args.get("Fwd thread id")


def test_numbers_of_another_thread_are_not_taken_for_ours(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    path = tmp_path / "trace.json"
    with (
        module_ranges(model),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiler,
    ):
        x = model[1](model[0](torch.randn(4, 8)))
        checkpoint(model[2:], x, use_reentrant=False).sum().backward()
    profiler.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    expected = kernels(events)
    moved = on_a_thread_of_its_own(events)
    assert kernels(moved) == expected
    backward = [k.module for k in expected if k.operator == "aten::mm"]
    assert backward == ["3", "3", "2", "2", "1", "1", "0"]
    trace = parse_trace(moved)
    assert set(trace.threads.values()) == {e.thread for e in trace.host} - {99}


def test_an_end_that_was_rounded_up_is_still_inside() -> None:
    def event(name: str, start: float, duration: float, number: int) -> dict[str, Any]:
        cat = "user_annotation" if name.startswith("precscope") else "cpu_op"
        args = {"External id": number}
        return {"ph": "X", "cat": cat, "name": name, "ts": start, "dur": duration, "tid": 1, "args": args}  # fmt: skip

    boot = 4616603580841.26
    outer = event("precscope module a", boot, 2.0, 1)
    inner = event("aten::mm", boot + 1.0, 1.001, 2)
    kernel = {"ph": "X", "cat": "kernel", "name": "k", "ts": boot, "dur": 1.0, "tid": 7, "args": {"External id": 2}}  # fmt: skip
    (found,) = attribute(parse_trace([outer, inner, kernel]), HOPPER, tf32=False)
    assert found.module == "a"


def test_the_rest_is_the_optimizer_or_outside(events: list[dict[str, Any]]) -> None:
    found = {k.operator: k.module for k in kernels(events)}
    assert found["aten::addcdiv_"] == OPTIMIZER
    assert found["aten::sum"] in (OUTSIDE, "0")  # the sum of a bias gradient is the module's
    outside = [k for k in kernels(events) if k.operator == "aten::sum" and not k.is_backward]
    assert {k.module for k in outside} == {OUTSIDE}


def test_eligible_used_and_rule(events: list[dict[str, Any]]) -> None:
    modules = by_module(kernels(events))
    linear = modules["2.0"]
    assert linear.eligible_us == pytest.approx(30.0)
    assert linear.used_us == pytest.approx(10.0)
    assert linear.tensor_cores == "yes"
    assert linear.time_us["no"] == pytest.approx(20.0)
    assert modules["1"].tensor_cores == "no"
    assert modules["1"].rule == "elementwise"
    assert modules[OUTSIDE].tensor_cores == "unknown"


def test_float32_without_tf32_is_not_eligible(events: list[dict[str, Any]]) -> None:
    assert not any(kernel.eligible for kernel in kernels(events, tf32=False))


def test_an_odd_shape_is_told_once_for_each_size(events: list[dict[str, Any]]) -> None:
    advice = by_module(kernels(events))["2.0"].advice
    assert "less efficient: N = 6 is no multiple of 4 (16 bytes)" in advice
    assert not by_module(kernels(events))["0"].advice


def test_a_kernel_that_nobody_launched_is_outside() -> None:
    lonely = {"ph": "X", "cat": "kernel", "name": "k", "ts": 1.0, "dur": 2.0, "tid": 7, "args": {}}
    (kernel,) = attribute(parse_trace([lonely]), HOPPER, tf32=False)
    assert (kernel.module, kernel.operator, kernel.tensor_cores) == (OUTSIDE, None, "unknown")


def test_busy_time_is_the_union_over_streams() -> None:
    def event(start: float, duration: float, stream: int) -> DeviceEvent:
        return DeviceEvent("k", stream, start, duration, None, None)

    assert busy_us([event(0, 10, 7), event(5, 10, 8), event(20, 1, 7), event(6, 2, 9)]) == 16.0


def test_a_model_is_traced_and_left_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    found = traced(model, lambda: model(torch.randn(2, 4)).sum().backward(), steps=2)
    ranges = [event.name for event in found.host if event.is_range]
    assert len(ranges) == 2 * 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
