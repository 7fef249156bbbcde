"""Peaks, FLOPs, comparisons and cross-checks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from precscope.timing.checks import cross_checks
from precscope.timing.comparing import compare
from precscope.timing.flops import achieved_tflops, count_flops
from precscope.timing.peaks import PEAKS, peak_of
from precscope.timing.steps import Block, Plan, spread, time_block, timed_steps
from tests.timing.test_module_clock import TestedClock

SHEET_CLOCK_MHZ = {
    "Tesla V100-SXM2-32GB": 1530, "Tesla T4": 1590, "NVIDIA A100-SXM4-80GB": 1410,
    "NVIDIA A10": 1695, "NVIDIA L4": 2040, "NVIDIA L40S": 2490, "NVIDIA H100 80GB HBM3": 1830,
    "NVIDIA H100 PCIe": 1620, "NVIDIA H100 NVL": 1545, "NVIDIA B200": 1856,
    "NVIDIA GeForce RTX 3090": 1695, "NVIDIA GeForce RTX 4090": 2520,
    "NVIDIA GeForce RTX 5090": 2407,
}  # fmt: skip


@pytest.mark.parametrize("name", SHEET_CLOCK_MHZ)
def test_a_sheet_is_processors_times_rate_times_clock(name: str) -> None:
    peak = PEAKS[name]
    at_clock = peak.tflops_at("fp16", SHEET_CLOCK_MHZ[name], peak.sm_count)
    assert at_clock == pytest.approx(peak.fp16_tflops, rel=4e-3)


@pytest.mark.parametrize("name", SHEET_CLOCK_MHZ)
def test_cuda_cores_likewise_within_their_other_boost_clock(name: str) -> None:
    peak = PEAKS[name]
    at_clock = peak.tflops_at("fp32", SHEET_CLOCK_MHZ[name], peak.sm_count)
    assert at_clock == pytest.approx(peak.fp32_tflops, rel=0.15)


def test_formats_before_ampere_have_no_rate() -> None:
    assert PEAKS["Tesla T4"].tflops("bf16") is None
    assert PEAKS["Tesla T4"].tflops_at("tf32", 1590, 40) is None


@pytest.mark.parametrize("name", ["NVIDIA H100", "nvidia l40s", "NVIDIA A10G", ""])
def test_a_name_that_is_not_in_the_table_has_no_peak(name: str) -> None:
    assert peak_of(name) is None


def test_flops_by_module_and_operator() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.ReLU(), nn.Linear(16, 4)))
    found = count_flops(model, lambda: model(torch.randn(32, 8)).sum().backward())
    first, last = 2 * 32 * 8 * 16, 2 * 32 * 16 * 4
    # Of the first layer there is no gradient of the input.
    assert found.modules["0"] == 2 * first
    assert found.modules["1.1"] == found.modules["1"] == 3 * last
    assert found.modules[""] == found.total == 2 * first + 3 * last
    assert sum(found.operators.values()) == found.total


def test_flops_of_parts_that_are_called_alone() -> None:
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(8, 16)), "b": nn.Sequential(nn.Tanh())})
    found = count_flops(model, lambda: model["b"](model["a"](torch.randn(32, 8))).sum().backward())
    assert found.modules["a"] == found.modules["a.0"] == found.total == 2 * 2 * 32 * 8 * 16


def test_achieved_rate() -> None:
    assert achieved_tflops(10**12, 10.0) == pytest.approx(100.0)


def block(ms: float, clock_mhz: float | None = 1700.0) -> Block:
    return Block((ms,) * 3, 4.0, {"sm_clock_median_mhz": clock_mhz})


def test_neighbouring_blocks_are_compared_and_their_range_is_told() -> None:
    blocks = {"fp32": [block(30.0), block(36.0)], "fp16": [block(10.0), block(10.0)]}
    found = compare(blocks, "fp16", "fp32")
    assert found.speedup == pytest.approx(3.3)
    assert (found.low, found.high) == (3.0, 3.6)


@pytest.mark.parametrize(("clock", "refused"), [(1700.0, False), (1655.0, False), (1600.0, True)])
def test_different_clocks_are_not_compared(clock: float, refused: bool) -> None:
    found = compare({"fp32": [block(30.0)], "fp16": [block(10.0, clock)]}, "fp16", "fp32")
    assert (found.speedup is None) is refused
    assert ("1600 MHz" in (found.reason or "")) is refused


def test_without_nvml_the_clocks_are_not_known_and_the_ratio_stands() -> None:
    blocks = {"fp32": [Block((30.0,), 4.0, None)], "fp16": [Block((10.0,), 4.0, None)]}
    assert compare(blocks, "fp16", "fp32").speedup == 3.0


GOOD = {"any_tensor_util_percent": 60.0, "throttled_share": 0.0}


def test_four_checks_pass_together() -> None:
    found = cross_checks(5.0, 9.0, 10.0, 55.0, GOOD)
    assert [check.passed for check in found] == [True] * 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("names and counters", (0.0, 9.0, 10.0, 1.0, GOOD)),
        ("names and counters", (5.0, 9.0, 10.0, 1.0, {"any_tensor_util_percent": 0.0})),
        ("rate and counters", (5.0, 9.0, 10.0, 70.0, GOOD)),
        ("kernels within the step", (5.0, 11.0, 10.0, 55.0, GOOD)),
        ("clock held back", (5.0, 9.0, 10.0, 55.0, {**GOOD, "throttled_share": 0.2})),
    ],
)
def test_each_check_warns(name: str, arguments: tuple[float, float, float, float, dict]) -> None:  # type: ignore[type-arg]
    assert [check.name for check in cross_checks(*arguments) if not check.passed] == [name]


def test_kernels_that_hardly_run_need_not_show_in_the_counter() -> None:
    found = cross_checks(0.02, 9.0, 10.0, 0.1, GOOD | {"any_tensor_util_percent": 0.1})
    assert all(check.passed for check in found)


def test_sums_in_fp16_have_a_rate_of_their_own_where_they_are_faster() -> None:
    assert PEAKS["NVIDIA GeForce RTX 4090"].tflops("fp16 sums") == 330.3
    hopper = PEAKS["NVIDIA H100 PCIe"]
    assert hopper.tflops("fp16 sums") == hopper.tflops("fp16")


def test_without_nvml_only_the_kernels_are_checked() -> None:
    assert [c.name for c in cross_checks(5.0, 9.0, 10.0, None, None)] == ["kernels within the step"]


def test_steps_are_timed_until_the_window_is_long_enough() -> None:
    clock = TestedClock()
    found = timed_steps(lambda: None, clock, Plan(steps=7, seconds=0.0))
    assert found == [1.0] * 7
    assert sorted(clock.freed) == list(range(1, 15))


def test_unfinished_steps_are_read_after_the_one_wait_at_the_end() -> None:
    clock = TestedClock()
    clock.arrived = 0
    clock.wait = lambda: setattr(clock, "arrived", 10**9)  # type: ignore[method-assign]
    assert timed_steps(lambda: None, clock, Plan(steps=5, seconds=0.0)) == [1.0] * 5


def test_a_block_without_nvml() -> None:
    plan = Plan(warm_up_steps=1, warm_up_s=0.0, steps=4, seconds=0.0)
    found = time_block(lambda: None, TestedClock(), plan, None)
    assert (found.nvml, found.sm_clock_mhz, found.median_ms) == (None, None, 1.0)
    assert spread(found.step_ms) == {"median": 1.0, "p10": 1.0, "p90": 1.0}
