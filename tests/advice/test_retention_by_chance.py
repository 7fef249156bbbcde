"""Retention of few updates, of updates that overshoot, and what is said of either."""

from __future__ import annotations

import pytest

from precscope.advice import advise
from precscope.advice.master_weights import parameter_retention
from precscope.facts import RetentionSums, UpdateWindow
from tests.support.recordings import recording, update_window


def sampled(retention: float, moved: int, nonzero: int = 256) -> UpdateWindow:
    """A window in which so many of the sampled updates moved their weight."""
    single = tuple(
        RetentionSums(f, retention, 1.0, 0.1, nonzero - moved, nonzero) for f in (1.0, 0.1, 0.01)
    )
    return UpdateWindow("embed.weight", 0, 0, 1, 256, 0.1, 0, 0, single, None)


def test_the_worst_of_many_windows_of_five_updates_is_chance() -> None:
    windows = [sampled(r, 5) for r in (0.97, 1.19, 1.10, 0.91, 1.29, 0.93)]
    found = parameter_retention("embed.weight", windows, at_risk=True)
    assert found.retention == pytest.approx(1.065)
    assert found.verdict != "required"


@pytest.mark.parametrize(("retention", "moved"), [(0.0, 0), (0.1, 2), (0.5, 5), (0.7, 32)])
def test_a_bad_window_counts_as_soon_as_it_is_no_chance(retention: float, moved: int) -> None:
    windows = [sampled(1.0, 200), sampled(retention, moved)]
    found = parameter_retention("embed.weight", windows, at_risk=True)
    assert found.retention == pytest.approx(retention)
    assert found.verdict == "required"


def test_updates_that_overshoot_are_not_said_to_be_swallowed() -> None:
    made = recording([("p", "weight", [1.0])], updates={"p": [update_window("p", (1.3, 1.0, 1.0))]})
    advice = advise(made)
    assert advice.master_weights == "required"
    sentence = next(v.sentence for v in advice.verdicts if v.question == "master_weights")
    assert "would overshoot updates" in sentence
    finding = next(f for f in advice.findings if f.rule == "updates_swallowed")
    assert "make R = 1.30 of" in finding.message


def test_a_module_s_lost_updates_are_told_though_its_bias_keeps_its_own() -> None:
    sites = [("fc.weight", "weight", [1.0]), ("fc.bias", "weight", [1.0])]
    updates = {
        "fc.weight": [update_window("fc.weight", (0.0, 0.0, 0.0))],
        "fc.bias": [update_window("fc.bias", (0.99, 0.9, 0.9))],
    }
    (choice,) = advise(recording(sites, updates=updates)).formats  # type: ignore[arg-type]
    assert "FP16 weights keep 0% of its updates" in choice.reason


def test_updates_of_a_weight_that_stays_in_fp32_say_nothing_about_fp16_weights() -> None:
    sites = [("norm.weight", "weight", [1.0])]
    updates = {"norm.weight": [update_window("norm.weight", (0.0, 0.0, 0.0))]}
    made = recording(sites, updates=updates, half_weights=["fc.weight"])  # type: ignore[arg-type]
    (choice,) = advise(made).formats
    assert "of its updates" not in choice.reason


def test_updates_that_are_rounding_error_are_not_said_to_be_missing() -> None:
    sites = [
        ("conv", "activation_gradient", [1e-3] * 64),
        ("conv.bias", "weight_gradient", [1e-10] * 4),
    ]
    updates = {"conv.bias": [update_window("conv.bias", (0.0, 0.0, 0.0))]}
    advice = advise(recording(sites, updates=updates))  # type: ignore[arg-type]
    assert "that is more than rounding error" in advice.verdicts[2].sentence
