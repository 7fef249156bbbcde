"""FP16 accumulators: bit by bit against the plain definition, and against known sums."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers

from precscope.probes.accumulation.facts import Reduction, measured
from precscope.probes.accumulation.reference import reference_sums
from precscope.probes.accumulation.sums import BLOCKS, Sums, sums_of

Floats = npt.NDArray[np.float32]
SPECIAL = [0.0, -0.0, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25, 2.0**-14, 65504.0, -65504.0, 1.0, 2048.0]


def assert_equal(found: Sums, expected: Sums) -> None:
    for field in dataclasses.fields(Sums):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@settings(max_examples=60)
@given(
    numbers.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 20)),
        elements=st.one_of(
            st.sampled_from(SPECIAL),
            st.floats(-300, 300, width=16).map(float),
            st.floats(-(2.0**-12), 2.0**-12, width=32),
        ),
    )
)
def test_the_compiled_sums_are_the_plain_definition_bit_by_bit(addends: Floats) -> None:
    assert_equal(sums_of(addends), reference_sums(addends))


@pytest.mark.parametrize("samples", [1, 7, 8, 64])
@pytest.mark.parametrize("size", [1e-4, 1.0, 60.0])
def test_long_sums_agree_too_whether_they_underflow_or_overflow(samples: int, size: float) -> None:
    stream = np.random.default_rng(samples)
    drawn = (stream.standard_normal((2, 700, samples)) * size).astype(np.float16)
    left, right = drawn.astype(np.float32)
    assert_equal(sums_of(left * right), reference_sums(left * right))


@pytest.mark.parametrize(("value", "stuck"), [(1.0, 2048.0), (0.5, 1024.0), (2.0**-10, 2.0)])
def test_a_constant_added_up_stops_at_2048_times_itself(value: float, stuck: float) -> None:
    sums = sums_of(np.full((8192, 1), value, np.float32))
    assert sums.half[0] == stuck
    assert sums.exact == 8192 * value
    assert sums.wide == 8192 * value
    assert sums.swamped[0] == 0.0  # exactly half a place: a tie, not below it


def numbers_of(addends: Floats, family: Any = "product") -> dict[str, Any]:
    tensor = torch.from_numpy(addends)
    return measured(Reduction("sum", family, len(addends), lambda: tensor))


def halves(values: npt.NDArray[np.float64]) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def products(kind: str, length: int) -> Floats:
    """512 dot products: zero-mean, or all of one sign (a ReLU's output times positive weights)."""
    stream = np.random.default_rng(length)
    left, right = stream.standard_normal((2, length, 512))
    if kind == "same sign":
        left, right = np.maximum(left, 0), abs(right)
    return halves(left) * halves(right)


@pytest.mark.parametrize(
    ("length", "kind", "one_by_one", "block_16", "float32"),
    [
        (256, "zero-mean", 2.3e-3, 5.4e-4, 2.0e-4),
        (4096, "zero-mean", 1.1e-2, 2.6e-3, 2.2e-4),
        (16384, "zero-mean", 1.9e-2, 4.6e-3, 2.0e-4),
        (1024, "same sign", 3.9e-3, 9.3e-4, 1.7e-4),
        (4096, "same sign", 3.1e-2, 2.0e-3, 1.8e-4),
        (16384, "same sign", 2.4e-1, 4.0e-3, 1.8e-4),
    ],
)
def test_errors_of_dot_products_are_those_of_the_literature_table(
    length: int, kind: str, one_by_one: float, block_16: float, float32: float
) -> None:
    found = numbers_of(products(kind, length))
    assert found["errors_fp16"]["1"] == pytest.approx(one_by_one, rel=0.3)
    assert found["errors_fp16"]["16"] == pytest.approx(block_16, rel=0.3)
    assert found["error_fp32"] == pytest.approx(float32, rel=0.3)


def test_the_error_is_foreseen_from_the_partial_sums_unless_they_swamp() -> None:
    fine = numbers_of(products("zero-mean", 4096))
    for block in map(str, BLOCKS):
        assert fine["expected_errors"][block] == pytest.approx(fine["errors_fp16"][block], rel=0.15)
    stuck = numbers_of(products("same sign", 16384))
    assert stuck["errors_fp16"]["1"] > 10 * stuck["expected_errors"]["1"]
    assert stuck["swamped"]["1"] > 1e-2
    assert stuck["swamped"]["16"] < 1e-2


def test_predictions_follow_their_formulas() -> None:
    found = numbers_of(np.ones((4096, 4), np.float32))
    assert found["kappa"] == 1.0
    assert found["predicted_errors"]["16"] == 2.0**-11 * 16
    assert found["worst_errors"] == {"1": 2.0, "4": 0.5, "8": 0.25, "16": 0.125}


def test_one_product_is_exact_but_for_the_store() -> None:
    found = numbers_of(halves(np.linspace(0.1, 9, 64)[None]) * np.float32(1.25))
    assert found["errors_fp16"]["1"] == found["errors_fp16"]["16"] == found["error_fp32"]
    assert found["error_fp32"] < 2.0**-11


def test_a_sum_that_overflows_on_the_way_has_no_error_and_keeps_its_peak() -> None:
    addends = np.array([60000.0, 60000.0, -60000.0, -59000.0], np.float32)[:, None]
    found = numbers_of(addends, "reduction")
    assert found["peak"] == 120000.0
    assert found["errors_fp16"]["1"] is None
    assert found["expected_errors"]["1"] is None
    assert found["error_fp32"] == 0.0
    assert found["errors_fp16"]["4"] == 0.0


def test_zeros_and_nan_are_told_and_not_measured() -> None:
    assert numbers_of(np.zeros((8, 3), np.float32))["unmeasured"] == "every sampled sum is zero"
    found = numbers_of(np.full((8, 3), np.nan, np.float32))
    assert found["unmeasured"] == "not finite"
    assert found["errors_fp16"] == {"1": None, "4": None, "8": None, "16": None}


def test_equal_sums_have_no_variance_to_keep() -> None:
    found = numbers_of(np.ones((100, 64), np.float32))
    assert found["variance_retention"]["1"] is None
    assert found["variance_retention_fp32"] is None
