"""Retention has closed forms where the update is a known part of a unit in the last place."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from precscope.facts import UpdateWindow
from precscope.monitor.readback import HostReader
from precscope.monitor.samples import SAMPLES
from precscope.monitor.updates import UpdateSampler


def taken(sampler: UpdateSampler) -> list[UpdateWindow]:
    return sampler.taken(iter(HostReader().read(sampler.filled())))


def sampled(weight: torch.Tensor, updates: list[torch.Tensor]) -> UpdateWindow:
    parameter = nn.Parameter(weight.clone())
    sampler = UpdateSampler([("w", parameter, {"lr": 0.5})])
    for step, update in enumerate(updates):
        sampler.before_step()
        with torch.no_grad():
            parameter.add_(update)
        sampler.after_step(step)
    (window,) = taken(sampler)
    return window


def retention(window: UpdateWindow, factor_index: int = 0) -> float:
    sums = window.single[factor_index]
    return sums.dot / sums.update_squares


def test_an_update_just_under_half_an_ulp_is_lost_and_just_over_is_doubled() -> None:
    ulp = 2.0**-10
    weight = torch.ones(64)
    under = sampled(weight, [torch.full((64,), 0.49 * ulp)])
    assert retention(under) == 0.0
    assert under.single[0].lost == 64
    over = sampled(weight, [torch.full((64,), 0.51 * ulp)])
    assert retention(over) == pytest.approx(1 / 0.51, rel=1e-3)
    assert over.single[0].lost == 0


def test_whole_ulps_are_kept_exactly_and_a_hundredth_is_lost() -> None:
    window = sampled(torch.ones(64), [torch.full((64,), 2.0**-9)])
    assert retention(window) == 1.0
    assert window.single[0].noise_squares == 0.0
    assert retention(window, 2) == 0.0


def test_updates_that_add_up_only_in_fp32_show_in_the_accumulated_sums() -> None:
    quarter = torch.full((32,), 2.0**-12)
    window = sampled(torch.ones(32), [quarter] * 8)
    assert window.accumulated is not None
    assert window.accumulated.dot == 0.0
    assert window.accumulated.update_squares == pytest.approx(32 * (8 * 2.0**-12) ** 2)


def test_the_papers_two_reasons_are_counted() -> None:
    window = sampled(torch.ones(10), [torch.full((10,), 2.0**-13)])
    assert window.ratio_above_2048 == 10
    assert window.below_2_24 == 0
    small = sampled(torch.full((10,), 2.0**-13), [torch.full((10,), 2.0**-26)])
    assert small.below_2_24 == 10


def test_a_still_weight_has_no_updates() -> None:
    window = sampled(torch.ones(5), [torch.zeros(5)])
    assert window.single[0].nonzero == 0
    assert window.single[0].update_squares == 0.0


@pytest.mark.parametrize("size", [1, 255, 256, 257, 5000])
def test_at_most_256_elements_are_sampled(size: int) -> None:
    window = sampled(torch.ones(size), [torch.full((size,), 0.5)])
    assert window.sampled == min(size, SAMPLES)
    assert window.single[0].nonzero == window.sampled


def test_channels_last_and_moved_parameters_are_followed() -> None:
    weight = torch.randn(8, 4, 3, 3).to(memory_format=torch.channels_last)
    parameter = nn.Parameter(weight)
    sampler = UpdateSampler([("w", parameter, {})])
    sampler.before_step()
    parameter.data = parameter.data + 1.0
    sampler.after_step(0)
    (window,) = taken(sampler)
    assert window.single[0].nonzero == SAMPLES
    assert retention(window) == pytest.approx(1.0, abs=1e-3)
    assert window.learning_rate is None
