"""What readings say about a window."""

from __future__ import annotations

import pytest

from precscope.timing.sampler import Reading, Readings
from precscope.timing.windows import (
    gpm_means,
    gpm_windows,
    mean_power_w,
    summary,
    throttled_share,
)

SECOND = 1_000_000_000


def reading(
    at_s: float, tensor: float | None = 50.0, energy_j: float | None = None, mask: int = 0
) -> Reading:
    return Reading(
        time_ns=round(at_s * SECOND),
        power_w=500.0,
        energy_j=500.0 * at_s if energy_j is None else energy_j,
        sm_clock_mhz=1700.0,
        memory_clock_mhz=2600.0,
        clock_event_reasons=mask,
        gpm={"any_tensor_util": tensor},
    )


def test_windows_over_an_edge_are_dropped_and_the_rest_weighted_by_length() -> None:
    # Windows end at the readings: 0-1 is over the first edge, 4-5 over the last.
    readings = [reading(0), reading(1, 99.0), reading(2, 10.0), reading(4, 40.0), reading(5, 99.0)]
    first, last = SECOND // 2, round(4.5 * SECOND)
    assert gpm_means(readings, first, last) == {"any_tensor_util": pytest.approx(30.0)}
    assert gpm_windows(readings, first, last) == 2


def test_a_missing_value_does_not_count_as_zero() -> None:
    readings = [reading(0), reading(1, 40.0), reading(2, None), reading(3, 20.0)]
    assert gpm_means(readings, 0, 3 * SECOND)["any_tensor_util"] == pytest.approx(30.0)


def test_power_is_the_slope_of_the_energy_counter() -> None:
    assert mean_power_w([reading(1), reading(3), reading(4)]) == pytest.approx(500.0)


@pytest.mark.parametrize("count", [0, 1])
def test_power_needs_two_readings(count: int) -> None:
    assert mean_power_w([reading(1)] * count) is None


def test_a_counter_that_stood_still_is_no_power() -> None:
    assert mean_power_w([reading(0, energy_j=7.0), reading(1, energy_j=7.0)]) is None


def test_energy_per_step_is_power_times_step_time() -> None:
    readings = Readings([reading(at / 5) for at in range(25)])
    found = summary(readings, 0, 4 * SECOND, steps=400)
    assert found["energy_per_step_j"] == pytest.approx(500.0 * 4.0 / 400)
    assert found["traces"]["power"]["unit"] == "W"
    assert found["traces"]["any tensor util"]["unit"] == "%"


def test_energy_of_a_short_window_is_below_resolution() -> None:
    readings = Readings([reading(at / 5) for at in range(12)])
    found = summary(readings, 0, 2 * SECOND, steps=200)
    assert found["energy_per_step_j"] is None
    assert "below the sensor's 3 s" in found["reasons"]["energy_per_step"]


def test_throttling_counts_power_and_heat_but_not_idle() -> None:
    masks = [0x0, 0x1, 0x2, 0x4, 0x40]
    assert throttled_share([reading(1, mask=mask) for mask in masks]) == pytest.approx(2 / 5)


def test_nothing_read_is_nothing_said() -> None:
    found = summary(Readings(reasons={"gpm": "no"}), 0, 5 * SECOND, steps=10)
    assert found["sm_clock_median_mhz"] is None
    assert found["throttled_share"] is None
    assert found["energy_per_step_j"] is None
    assert found["reasons"]["gpm"] == "no"
    assert found["reasons"]["readings"] == "no reading fell into the window of 5.0 s"


def test_a_counter_that_went_back_is_no_power() -> None:
    readings = [reading(at, energy_j=joules) for at, joules in enumerate((1000.0, 5.0, 2000.0))]
    assert mean_power_w(readings) is None


def test_too_few_readings_are_the_reason_for_what_is_missing() -> None:
    found = summary(Readings([reading(1)]), 0, 5 * SECOND, steps=10)
    assert found["energy_per_step_j"] is None
    assert found["reasons"]["energy_per_step"].startswith("1 readings of the energy counter")
    assert found["reasons"]["gpm"].startswith("no window of the counters lies wholly inside")


def test_readings_that_end_early_say_nothing_of_the_window() -> None:
    """As when the thread fails on the way: power of the first half second is not that of five."""
    readings = Readings([reading(at / 5) for at in range(3)], {"sampling": "ValueError: a bug"})
    found = summary(readings, 0, 5 * SECOND, steps=10)
    assert found["mean_power_w"] is None
    assert "energy_per_step" in found["reasons"]
