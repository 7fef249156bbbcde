"""Every code of the small formats, and the corners of the large ones, against the reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precscope.kernels import new_rows, observe, row, to_histogram
from precscope.kernels.fallback import observe_fallback
from precscope.kernels.library import EIGHT_BIT
from precscope.kernels.reference import observe_reference

Observe = Callable[[torch.Tensor, torch.Tensor], None]

KERNELS = pytest.mark.parametrize("kernel", [observe, observe_fallback])
SIXTEEN_BIT = (torch.float16, torch.bfloat16)
WIDE = {torch.float32: torch.int32, torch.float64: torch.int64}
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def assert_like_reference(tensor: torch.Tensor, *kernels: Observe) -> None:
    expected = new_rows(1)[0]
    observe_reference(tensor, expected)
    for kernel in kernels:
        actual = new_rows(1)[0]
        kernel(tensor, actual)
        assert_rows_agree(actual, expected)


def assert_rows_agree(actual: torch.Tensor, expected: torch.Tensor) -> None:
    sums = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
    torch.testing.assert_close(
        actual.view(torch.float64)[sums], expected.view(torch.float64)[sums], rtol=1e-12, atol=0.0
    )
    actual, expected = actual.clone(), expected.clone()
    actual[sums] = expected[sums] = 0
    assert torch.equal(actual, expected)


def every_code(dtype: torch.dtype) -> torch.Tensor:
    codes = torch.arange(1 << 8 * dtype.itemsize, dtype=torch.int32)
    return codes.to(BITS[dtype.itemsize]).view(dtype)


def of_bits(codes: list[int]) -> torch.Tensor:
    signed = [code - (1 << 32) if code >> 31 else code for code in codes]
    return torch.tensor(signed, dtype=torch.int32).view(torch.float32)


@KERNELS
@pytest.mark.parametrize("dtype", [*SIXTEEN_BIT, *EIGHT_BIT], ids=str)
def test_every_code_counts_as_in_the_reference(dtype: torch.dtype, kernel: Observe) -> None:
    assert_like_reference(every_code(dtype), kernel)


@KERNELS
@pytest.mark.parametrize("dtype", SIXTEEN_BIT, ids=str)
def test_every_sixteen_bit_code_alone_in_order_of_value(
    dtype: torch.dtype, kernel: Observe
) -> None:
    finite = every_code(dtype)[: 1 << 15]
    finite = finite[finite.isfinite()]
    for part in finite.split(4096):
        assert_like_reference(part, kernel)


@KERNELS
def test_both_sides_of_every_float32_octave(kernel: Observe) -> None:
    normal = [field << 23 for field in range(1, 256)]
    subnormal = [1 << bit for bit in range(23)]
    edges = [edge + step for edge in normal + subnormal for step in (-1, 0, 1)]
    assert_like_reference(of_bits(edges + [edge | 1 << 31 for edge in edges]), kernel)


@KERNELS
@pytest.mark.parametrize(
    "codes",
    [
        [0x00000000, 0x80000000],
        [0x00000001, 0x80000001, 0x007FFFFF],
        [0x7F7FFFFF, 0xFF7FFFFF],
        [0x7F800000, 0xFF800000, 0x3F800000],
        [0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7FBFFFFF],
        [0x7F800000, 0x7FC00000, 0x00000001, 0x00000000, 0x3F800000, 0x3FC00000],
    ],
    ids=["zeros", "subnormals", "largest", "infinities", "nans", "all_sorts"],
)
@pytest.mark.parametrize("repeats", [1, 5000])
def test_special_float32_values(codes: list[int], repeats: int, kernel: Observe) -> None:
    assert_like_reference(of_bits(codes).repeat(repeats), kernel)


@KERNELS
def test_float64_outside_float32_gathers_in_the_outermost_bins(kernel: Observe) -> None:
    values = torch.tensor(
        [2.0**-150, 1.5 * 2.0**-160, 5e-324, 3e-320, 2.0**128, 2.0**200, 1.9 * 2.0**127, 1e150],
        dtype=torch.float64,
    )
    assert_like_reference(values, kernel)
    result = new_rows(1)[0]
    kernel(values, result)
    histogram = to_histogram(result)
    assert (histogram.counts[0], histogram.powers[0]) == (4, 2)
    assert (histogram.counts[-1], histogram.powers[-1]) == (4, 2)


@KERNELS
@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_random_bit_patterns(dtype: torch.dtype, kernel: Observe) -> None:
    generator = torch.Generator().manual_seed(3)
    info = torch.iinfo(WIDE[dtype])
    codes = torch.randint(info.min, info.max, (20_001,), dtype=WIDE[dtype], generator=generator)
    values = codes.view(dtype)
    # Squares of the largest float64 overflow in the reference as well, but with a warning.
    assert_like_reference(torch.where(values.abs() < 1e150, values, 1.0), kernel)


@KERNELS
def test_a_spread_wider_than_the_kernel_compares_for(kernel: Observe) -> None:
    exponents = torch.arange(-126, 128).repeat(20)
    assert_like_reference(torch.exp2(exponents.double()).float() * 1.25, kernel)
    assert_like_reference(torch.exp2(exponents.double()).float(), kernel)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from([*WIDE, *SIXTEEN_BIT, *EIGHT_BIT]),
    size=st.sampled_from([0, 1, 15, 16, 17, 63, 64, 65, 4095, 4096, 4097, 8191, 8193]),
    log2_sigma=st.floats(-40, 40),
    spread=st.floats(0, 12),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 1 << 30),
)
def test_natural_values_of_any_size(
    dtype: torch.dtype, size: int, log2_sigma: float, spread: float, zeros: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(2, size, generator=generator, dtype=torch.float64)
    values = normal[0] * torch.exp2(log2_sigma + spread * normal[1])
    values[torch.rand(size, generator=generator) < zeros] = 0.0
    assert_like_reference(values.to(dtype), observe, observe_fallback)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(width=32), max_size=40))
def test_any_float32_values(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    assert_like_reference(tensor, observe, observe_fallback)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_sums_agree_with_exact_summation(scale: float) -> None:
    values = torch.randn(50_001, generator=torch.Generator().manual_seed(1)) * scale
    result = new_rows(1)[0]
    observe(values, result)
    histogram = to_histogram(result)
    exact = [float(value) for value in values]
    assert histogram.sum_abs == pytest.approx(math.fsum(map(abs, exact)), rel=1e-13)
    squares = math.fsum(value * value for value in exact)
    assert histogram.sum_squares == pytest.approx(squares, rel=1e-13)
    assert histogram.amax == max(map(abs, exact))


def test_the_mean_magnitude_of_a_normal_tensor_is_the_closed_form() -> None:
    result = new_rows(1)[0]
    observe(torch.randn(200_000, generator=torch.Generator().manual_seed(2)), result)
    histogram = to_histogram(result)
    assert histogram.sum_abs / histogram.total == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)
    assert histogram.rms == pytest.approx(1.0, rel=0.01)


@KERNELS
def test_calls_accumulate_into_one_row(kernel: Observe) -> None:
    first, second = torch.randn(300), torch.tensor([0.0, math.inf, math.nan, 8.0, 1e-42])
    apart, together = new_rows(2)
    kernel(first, together)
    kernel(second, together)
    observe_reference(torch.cat([first, second]), apart)
    apart[row.OBSERVATIONS] = 2
    assert_rows_agree(together, apart)


def test_counts_do_not_depend_on_the_processor_flushing_subnormals() -> None:
    values = of_bits([1, 2, 3, 0x007FFFFF, 0x00800000, 0])
    expected, actual = new_rows(2)
    observe(values, expected)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        observe(values, actual)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(actual, expected)
    assert to_histogram(actual).nonzero == 5
