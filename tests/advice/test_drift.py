"""Drift of the needed scale: closed forms, and a recording whose gradients shrink late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from precscope import build_result
from precscope.advice import advise
from precscope.advice.drift import Drift, drift_of
from precscope.advice.drift_findings import _dynamic_code, drift_findings
from precscope.advice.drift_needs import Need, sustained
from precscope.advice.drift_trend import trend
from precscope.advice.loss_scale import LossScaleAdvice, LossScaleVerdict
from precscope.advice.residual import Residual, ResidualPoint
from precscope.facts import StepRecord, Window
from precscope.recipe import Recipe
from precscope.recording import Recording
from tests.support.recordings import site, window

UNMEASURED = Residual((), "not measured")


def needs(*values: int, steps: int = 10) -> list[Need]:
    """One window of ``steps`` steps per value."""
    return [Need(i * steps, (i + 1) * steps - 1, k, "fc") for i, k in enumerate(values)]


def advice(
    verdict: LossScaleVerdict = "static", minimum: int = 2, recommended: int | None = 8
) -> LossScaleAdvice:
    return LossScaleAdvice(verdict, minimum, 14, recommended, "fc", "fc", minimum, "", ())


def judged(*values: int, **known: Any) -> Drift:
    return drift_of(needs(*values), advice(**known), was_probed=False)


def test_a_steady_need_stays_inside() -> None:
    found = judged(*[3] * 8)
    assert found.state == "inside"
    assert found.slope_bits_per_100_steps == 0.0
    assert found.leaves_at_step is None
    assert drift_findings(found, UNMEASURED) == []


def test_a_straight_rise_leaves_where_the_line_says() -> None:
    found = judged(0, 0, 0, 0, 1, 2, 3, 4)
    assert found.slope_bits_per_100_steps == pytest.approx(10.0)
    assert found.state == "leaving"
    # 4 bits are left at step 79 and 2^8 is still enough: the fifth bit, 50 steps on, is too many.
    assert found.leaves_at_step == 79 + 50
    (finding,) = drift_findings(found, UNMEASURED)
    assert finding.severity == "warning"
    assert "129" in finding.message


def test_a_rise_that_takes_ten_times_the_observed_steps_is_not_foretold() -> None:
    slow = judged(*range(-40, -32), recommended=100)
    assert slow.slope_bits_per_100_steps == pytest.approx(10.0)
    assert slow.state == "inside"


def test_a_need_that_falls_or_flickers_is_no_trend() -> None:
    assert judged(4, 4, 4, 4, 4, 3, 2, 1).state == "inside"
    assert trend(needs(3, 3, 3, 3, 3, 4, 3, 4)) == 0.0
    assert trend(needs(3, 3, 3)) is None
    assert "too few windows" in judged(3, 3, 3).reason


def test_warm_up_is_left_out_of_the_slope() -> None:
    assert judged(-9, -6, -4, -1, 3, 3, 3, 3).slope_bits_per_100_steps == 0.0


def test_a_peak_of_one_window_is_noise_and_of_two_is_not() -> None:
    assert [n.needed_log2 for n in sustained(needs(1, 9, 2, 3))] == [1, 2, 2, 2]
    assert judged(1, 1, 1, 12, 1, 1, 1, 1).state == "inside"
    found = judged(1, 1, 1, 12, 12, 1, 1, 1)
    assert found.state == "left"
    assert found.leaves_at_step == 30
    assert "steps 30 to 39" in found.reason


def test_the_screen_is_put_on_the_level_of_the_backward_where_one_ran() -> None:
    found = drift_of(needs(*[6] * 8), advice(minimum=2), was_probed=True)
    assert found.shift_bits == -4
    assert {need.needed_log2 for need in found.needs} == {2}
    screened = drift_of(needs(*[6] * 8), advice(minimum=2), was_probed=False)
    assert screened.shift_bits == 0


def test_a_middle_that_no_backward_saw_can_still_leave_the_scale() -> None:
    peaked = drift_of(needs(6, 6, 6, 14, 14, 6, 6, 6), advice(minimum=2), was_probed=True)
    assert peaked.state == "left"
    assert max(need.needed_log2 for need in peaked.needs) == 10


def test_a_dynamic_scale_is_not_held_against_a_constant() -> None:
    found = judged(0, 0, 0, 0, 1, 2, 3, 4, verdict="dynamic")
    assert found.state == "follows"
    assert found.advised_log2 is None
    assert found.slope_bits_per_100_steps == pytest.approx(10.0)


def test_nothing_observed_is_unknown() -> None:
    assert drift_of([], advice(), was_probed=False).state == "unknown"


def test_a_run_that_was_still_at_its_floor_disproves_the_forecast() -> None:
    found = judged(0, 0, 0, 0, 1, 2, 3, 4)
    point = ResidualPoint(199, 8, 0.001, "fc.weight", 0.001, 0.01, 0.1, breaks=False)
    (finding,) = drift_findings(found, Residual((point,), None))
    assert finding.severity == "advice"
    assert "still at its floor after step 199" in finding.message
    earlier = Residual((replace(point, step=100),), None)
    assert drift_findings(found, earlier)[0].severity == "warning"


WINDOWS = 40


def late(shrunk_windows: int) -> Recording:
    """Forty windows of gradients at 2^-10, the last ones at 2^-28."""
    windows: list[Window] = [
        window([2.0 ** (-28 if i >= WINDOWS - shrunk_windows else -10)] * 64, 10 * i, 10 * i + 9)
        for i in range(WINDOWS)
    ]
    return Recording.from_facts(
        sites=[site("fc.weight", "weight_gradient", "float16")],
        windows={0: windows},
        steps=[StepRecord(i, 1.0, 2.0**-10, 0, 0.0) for i in range(10 * WINDOWS)],
    )


def test_a_need_that_only_arises_late_is_found_though_the_whole_run_hides_it() -> None:
    # 2 of 40 windows are 5 % of the values and no mass: the screen of the whole run lets them go.
    found = advise(late(2))
    assert found.loss_scale.verdict == "not_needed"
    assert found.drift.state == "left"
    assert found.drift.leaves_at_step == 380
    assert "scale_drift" in [finding.rule for finding in found.findings]
    # 2^-28 survives from k = 4 on: 2^-25 itself, half the smallest subnormal, would be flushed.
    entry = build_result(late(2))["drift"]
    assert entry["needs"][-1] == {
        "first_step": 390, "last_step": 399, "needed_log2": 4, "site": "fc.weight (weight gradient)",
    }  # fmt: skip
    assert entry["needs"][0]["needed_log2"] == -14


def test_without_the_late_windows_nothing_is_said() -> None:
    assert advise(late(0)).drift.state == "inside"


@pytest.mark.parametrize("log2_initial", [-12, 4, 30])
def test_the_code_of_a_dynamic_scale_runs_as_it_is(log2_initial: int) -> None:
    names: dict[str, Any] = {"recipe": Recipe.named("paper-no-scaling")}
    exec(_dynamic_code(log2_initial), names)
    scaling = names["recipe"].loss_scaling
    assert (scaling.kind, scaling.log2_initial) == ("dynamic", log2_initial)


def test_a_peak_of_one_step_is_told_as_one_step() -> None:
    drift = drift_of(needs(3, 9, 9, 3, steps=1), advice(recommended=8), was_probed=False)
    assert drift.reason.startswith("in step 1 2^9 is needed")


def test_a_need_that_came_back_while_the_run_stayed_at_its_floor_is_no_finding() -> None:
    drift = drift_of(needs(3, 9, 9, 3, steps=1), advice(recommended=8), was_probed=False)
    point = ResidualPoint(3, 8, 0.001, "fc.weight", 0.001, 0.01, 0.1, breaks=False)
    assert drift_findings(drift, Residual((point,), None)) == []
    (finding,) = drift_findings(drift, UNMEASURED)
    assert finding.severity == "warning"


def test_a_backward_that_no_scale_harmed_lifts_no_need() -> None:
    unharmed = replace(advice("not_needed", 0, 0), minimum_site=None)
    assert drift_of(needs(-4, -4, -3, -3), unharmed, was_probed=True).shift_bits == 0
    assert drift_of(needs(4, 4, 4, 4), unharmed, was_probed=True).shift_bits == -4
    harmed = advice("not_needed", 0, 0)
    assert drift_of(needs(-4, -4, -4, -4), harmed, was_probed=True).shift_bits == 4
