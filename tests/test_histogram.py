"""Shares lost, predicted from a histogram, against real casts of the scaled values."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from precscope.formats import BF16, E4M3, E5M2, FP16, FP32, TF32, NumberFormat
from precscope.histogram import BINS, MIN_EXPONENT, ExponentHistogram, no_counts

NARROW = [FP16, BF16, E4M3, E5M2]
SCALES = range(-40, 41)

Values = npt.NDArray[np.float64]


def ids(fmt: NumberFormat) -> str:
    return fmt.name


def histogram_of(values: Values) -> ExponentHistogram:
    """A second, naive way to count: frexp, one value at a time in the bins."""
    magnitudes = np.abs(values[np.isfinite(values)])
    significands, exponents = np.frexp(magnitudes[magnitudes > 0])
    counts, powers = no_counts(), no_counts()
    np.add.at(counts, exponents - 1 - MIN_EXPONENT, 1)
    np.add.at(powers, exponents[significands == 0.5] - 1 - MIN_EXPONENT, 1)
    return ExponentHistogram(
        counts=counts,
        powers=powers,
        zeros=int((values == 0).sum()),
        infinities=int(np.isinf(values).sum()),
        nans=int(np.isnan(values).sum()),
        amax=float(magnitudes.max(initial=0.0)),
        sum_abs=float(magnitudes.sum()),
        sum_squares=float((magnitudes * magnitudes).sum()),
    )


def random_values(seed: int, log2_center: float, log2_spread: float, size: int = 500) -> Values:
    """float32 data with exact powers of two and zeros among it, as means and ReLUs make them."""
    draw = np.random.default_rng(seed)
    values = np.exp2(draw.normal(log2_center, log2_spread, size)) * draw.choice([-1.0, 1.0], size)
    powers = draw.random(size) < 0.3
    values[powers] = np.exp2(np.rint(np.log2(np.abs(values[powers]))))
    values[draw.random(size) < 0.1] = 0.0
    rounded: Values = values.astype(np.float32).astype(np.float64)
    return rounded


DATA = [random_values(seed, center, spread) for seed, (center, spread) in enumerate(
    [(-18.0, 8.0), (10.0, 6.0), (0.0, 20.0), (-100.0, 15.0), (95.0, 6.0)]
)]  # fmt: skip


def exact_in_float32(values: Values, log2_scale: int) -> Values:
    """Those values that float32 still holds exactly after the scale.

    torch casts float64 to a narrow dtype by way of float32; the others would be rounded twice.
    """
    scaled = torch.from_numpy(np.ldexp(values, log2_scale))
    exact = (scaled.float().double() == scaled).numpy()
    kept: Values = values[exact]
    return kept


def cast(values: Values, log2_scale: int, fmt: NumberFormat) -> torch.Tensor:
    assert fmt.dtype is not None
    return torch.from_numpy(np.ldexp(values, log2_scale)).to(fmt.dtype).double().abs()


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_flushed_and_subnormal_counts_are_those_of_a_real_cast(
    fmt: NumberFormat, data: Values
) -> None:
    for log2_scale in SCALES:
        values = exact_in_float32(data[data != 0.0], log2_scale)
        histogram = histogram_of(values)
        result = cast(values, log2_scale, fmt)
        magnitudes = torch.from_numpy(np.abs(np.ldexp(values, log2_scale)))
        flushed = int((result == 0).sum())
        below_normal = int((magnitudes < fmt.smallest_normal).sum())
        assert histogram.flushed_count(fmt, log2_scale) == flushed
        assert histogram.subnormal_count(fmt, log2_scale) == below_normal - flushed


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("fmt", [FP16, BF16, E5M2], ids=ids)
def test_the_overflow_count_is_zero_exactly_when_nothing_overflows(
    fmt: NumberFormat, data: Values
) -> None:
    for log2_scale in SCALES:
        values = exact_in_float32(data, log2_scale)
        overflowing = int(cast(values, log2_scale, fmt).isinf().sum())
        count = histogram_of(values).overflow_count(fmt, log2_scale)
        assert (count == 0) == (overflowing == 0)
        assert count <= overflowing


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("fmt", [*NARROW, FP32, TF32], ids=ids)
def test_the_overflow_count_is_exact_for_whole_octaves(fmt: NumberFormat, data: Values) -> None:
    """Without values in the octave of the largest finite number, nothing has to be guessed."""
    histogram = histogram_of(data)
    for log2_scale in SCALES:
        magnitudes = np.abs(np.ldexp(data, log2_scale))
        beyond = int((magnitudes >= 2.0 * 2.0**fmt.max_exponent).sum())
        if beyond:
            assert histogram.overflow_count(fmt, log2_scale) == beyond


def test_a_value_of_half_the_smallest_subnormal_is_flushed_and_its_neighbour_is_not() -> None:
    tie = 2.0**-25
    histogram = histogram_of(np.array([tie, -tie, np.nextafter(tie, 1.0), 0.0]))
    assert histogram.flushed_count(FP16) == 2
    assert histogram.flushed_count(FP16, 1) == 0
    assert histogram.flushed_fraction(FP16) == 2 / 3


def test_the_largest_value_alone_decides_inside_the_topmost_octave() -> None:
    assert histogram_of(np.array([65519.0])).overflow_count(FP16) == 0
    assert histogram_of(np.array([65520.0, 40000.0])).overflow_count(FP16) == 1
    assert histogram_of(np.array([464.0])).overflow_count(E4M3) == 0
    assert histogram_of(np.array([464.1, 300.0])).overflow_count(E4M3) == 1


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("fmt", [FP16, E4M3, E5M2], ids=ids)
def test_a_shift_by_k_counts_like_a_scale_by_2_to_the_k(fmt: NumberFormat, data: Values) -> None:
    histogram = histogram_of(data)
    for log2_scale in SCALES:
        shifted = histogram.shifted(log2_scale)
        for count in ("flushed_count", "subnormal_count", "overflow_count"):
            assert getattr(shifted, count)(fmt) == getattr(histogram, count)(fmt, log2_scale)
        assert shifted.total == histogram.total


def test_a_shift_is_the_histogram_of_the_scaled_values() -> None:
    data = DATA[0]
    shifted, direct = histogram_of(data).shifted(7), histogram_of(np.ldexp(data, 7))
    assert np.array_equal(shifted.counts, direct.counts)
    assert np.array_equal(shifted.powers, direct.powers)
    assert (shifted.zeros, shifted.amax) == (direct.zeros, direct.amax)
    assert shifted.sum_abs == pytest.approx(direct.sum_abs, rel=1e-12)
    assert shifted.sum_squares == pytest.approx(direct.sum_squares, rel=1e-12)


def test_a_shift_beyond_float32_loses_no_value() -> None:
    histogram = histogram_of(np.array([2.0**-140, 1.5, 2.0**120]))
    assert histogram.shifted(-300).nonzero == histogram.shifted(300).nonzero == 3
    assert histogram.shifted(-300).exponent_range == (MIN_EXPONENT, MIN_EXPONENT)


@pytest.mark.parametrize("fmt", [*NARROW, FP32], ids=ids)
@given(st.floats(min_value=1e-320, max_value=1e300, exclude_min=True))
def test_the_largest_safe_scale_is_the_one_that_brute_force_finds(
    fmt: NumberFormat, amax: float
) -> None:
    found = ExponentHistogram(amax=amax).log2_scale_before_overflow(fmt)
    assert found is not None
    assert not fmt.overflows(math.ldexp(amax, found))
    assert fmt.overflows(math.ldexp(amax, found + 1))


@pytest.mark.parametrize("amax", [65504.0, 65519.99, 65520.0, 32768.0, 2.0**-149, 1.0])
def test_the_largest_safe_scale_at_the_edges(amax: float) -> None:
    safe = [k for k in range(-300, 300) if not FP16.overflows(amax * 2.0**k)]
    assert ExponentHistogram(amax=amax).log2_scale_before_overflow(FP16) == max(safe)


def equal(a: ExponentHistogram, b: ExponentHistogram) -> bool:
    scalars = ("zeros", "infinities", "nans", "amax")
    return (
        np.array_equal(a.counts, b.counts)
        and np.array_equal(a.powers, b.powers)
        and all(getattr(a, name) == getattr(b, name) for name in scalars)
    )


def test_merging_is_exact_in_any_order_and_grouping() -> None:
    a, b, c = (histogram_of(data) for data in DATA[:3])
    everything = histogram_of(np.concatenate(DATA[:3]))
    assert equal(a.merged(b).merged(c), everything)
    assert equal(a.merged(b.merged(c)), everything)
    assert equal(c.merged(a).merged(b), everything)
    assert a.merged(b).sum_abs == pytest.approx(a.sum_abs + b.sum_abs)


def test_merging_with_an_empty_histogram_changes_nothing() -> None:
    histogram = histogram_of(DATA[0])
    assert equal(histogram.merged(ExponentHistogram()), histogram)


def test_infinities_and_nans_are_counted_apart() -> None:
    histogram = histogram_of(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0]))
    assert (histogram.infinities, histogram.nans, histogram.zeros) == (2, 1, 2)
    assert (histogram.nonzero, histogram.total, histogram.amax) == (1, 6, 1.0)
    assert histogram.overflow_count(FP16) == 0
    assert histogram.rms == pytest.approx(math.sqrt(1 / 3))


@pytest.mark.parametrize("histogram", [ExponentHistogram(), ExponentHistogram(zeros=9)])
@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_nothing_is_lost_where_every_value_is_zero(
    fmt: NumberFormat, histogram: ExponentHistogram
) -> None:
    assert histogram.flushed_count(fmt, -40) == histogram.subnormal_count(fmt, -40) == 0
    assert histogram.overflow_count(fmt, 40) == 0
    assert histogram.flushed_fraction(fmt) == histogram.overflow_fraction(fmt) == 0.0
    assert histogram.l1_flushed_fraction(fmt) == histogram.subnormal_fraction(fmt) == 0.0
    assert histogram.log2_scale_before_overflow(fmt) is None
    assert histogram.exponent_range is None
    assert histogram.rms == 0.0


@pytest.mark.parametrize("data", DATA[:3])
@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_the_lost_l1_mass_lies_within_the_bounds_of_an_octave(
    fmt: NumberFormat, data: Values
) -> None:
    """An octave's mass is 1 to 2 times its lower edge and counted as 1.5 times it."""
    histogram = histogram_of(data)
    for log2_scale in SCALES:
        magnitudes = np.abs(np.ldexp(data, log2_scale))
        lost = magnitudes[magnitudes <= fmt.flush_threshold].sum() / magnitudes.sum()
        estimate = histogram.l1_flushed_fraction(fmt, log2_scale)
        assert 0.0 <= estimate <= 1.0
        # The last bits of the two sums differ.
        assert 2 / 3 * estimate * (1 - 1e-9) <= lost <= 4 / 3 * estimate * (1 + 1e-9)


def test_the_lost_l1_mass_of_powers_of_two_is_exact() -> None:
    values = np.exp2(np.arange(-40.0, -10.0))
    expected = np.exp2(np.arange(-40.0, -24.0)).sum() / values.sum()
    found = histogram_of(values).l1_flushed_fraction(FP16)
    assert found == pytest.approx(expected, rel=1e-12)


def test_all_mass_is_lost_when_all_values_are() -> None:
    assert histogram_of(np.full(7, 1.9e-9)).l1_flushed_fraction(FP16) == 1.0


def test_the_fractions_are_shares_of_the_nonzero_values() -> None:
    histogram = histogram_of(np.array([2.0**-30, 2.0**-20, 1.0, 1e6, 0.0, 0.0]))
    assert histogram.flushed_fraction(FP16) == 0.25
    assert histogram.subnormal_fraction(FP16) == 0.25
    assert histogram.overflow_fraction(FP16) == 0.25


def test_the_exponent_range_spans_the_occupied_bins() -> None:
    assert histogram_of(np.array([0.75, -6.0, 0.0])).exponent_range == (-1, 2)
    assert no_counts().shape == (BINS,)
