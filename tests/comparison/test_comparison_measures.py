"""Shifts and distances, against distributions whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precscope.comparison.measures import (
    amax_log2,
    difference,
    distance_bits,
    mean_log2,
    median_log2,
)
from precscope.histogram import ExponentHistogram
from tests.support.recordings import window

VALUES = st.lists(st.floats(2.0**-20, 2.0**20), min_size=1, max_size=40)


def histogram(values: list[float]) -> ExponentHistogram:
    return window(values).histogram


@settings(max_examples=40, deadline=None)
@given(VALUES, st.integers(-30, 30))
def test_a_factor_of_two_to_the_k_shifts_everything_by_k(values: list[float], k: int) -> None:
    a, b = histogram(values), histogram([math.ldexp(value, k) for value in values])
    for measure in (mean_log2, median_log2, amax_log2):
        assert difference(measure(a), measure(b)) == pytest.approx(k, abs=1e-9)
    assert distance_bits(a, b) == pytest.approx(abs(k), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_mean_and_median_are_within_an_octave_of_the_truth(values: list[float]) -> None:
    found, truth = histogram(values), np.log2(values)
    mean, median = mean_log2(found), median_log2(found)
    assert mean is not None
    assert median is not None
    assert abs(mean - truth.mean()) <= 0.5
    ordered = np.sort(np.floor(truth))
    assert ordered[(len(ordered) - 1) // 2] <= median <= ordered[len(ordered) // 2] + 1


def test_a_wider_spread_about_the_same_middle_is_a_distance_and_no_shift() -> None:
    narrow, wide = histogram([1.5, 1.5]), histogram([1.5 / 16, 1.5 * 16])
    assert difference(mean_log2(narrow), mean_log2(wide)) == 0.0
    assert distance_bits(narrow, wide) == 4.0


def test_nothing_is_measured_where_there_is_no_value() -> None:
    empty, zeros = ExponentHistogram(), histogram([0.0, 0.0])
    for found in (empty, zeros):
        assert mean_log2(found) is median_log2(found) is amax_log2(found) is None
        assert distance_bits(found, histogram([1.0])) is None
    assert difference(None, 1.0) is None
