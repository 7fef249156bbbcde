"""The derived facts of every format against torch's own codes and casts."""

from __future__ import annotations

import math

import pytest
import torch

from precscope.errors import UsageError
from precscope.formats import (
    BF16,
    E4M3,
    E5M2,
    FORMATS,
    FP16,
    FP32,
    TF32,
    NumberFormat,
    get_format,
)

NARROW = [FP16, BF16, E4M3, E5M2]
WITH_DTYPE = [*NARROW, FP32]


def ids(fmt: NumberFormat) -> str:
    return fmt.name


def dtype_of(fmt: NumberFormat) -> torch.dtype:
    assert fmt.dtype is not None
    return fmt.dtype


def bits_of(fmt: NumberFormat) -> int:
    return 1 + fmt.exponent_bits + fmt.mantissa_bits


def all_codes(fmt: NumberFormat) -> torch.Tensor:
    """Every code of the format, in order of its bits, as float64."""
    codes = torch.arange(1 << bits_of(fmt), dtype=torch.int64)
    storage = torch.uint8 if bits_of(fmt) == 8 else torch.int16
    return codes.to(storage).view(dtype_of(fmt)).double()


def decoded(fmt: NumberFormat, code: int) -> float:
    """The value of a code by the definition at the top of ``formats``."""
    exponent = code >> fmt.mantissa_bits & ((1 << fmt.exponent_bits) - 1)
    fraction = code & ((1 << fmt.mantissa_bits) - 1)
    sign = -1.0 if code >> (fmt.exponent_bits + fmt.mantissa_bits) else 1.0
    if exponent == 0:
        return sign * math.ldexp(fraction, 1 - fmt.bias - fmt.mantissa_bits)
    if exponent > fmt.bias + fmt.max_exponent:
        return sign * math.inf if fraction == 0 else math.nan
    if exponent == fmt.bias + fmt.max_exponent and fraction > fmt.largest_significand_step:
        return math.nan
    significand = (1 << fmt.mantissa_bits) + fraction
    return sign * math.ldexp(significand, exponent - fmt.bias - fmt.mantissa_bits)


def cast(fmt: NumberFormat, value: float) -> float:
    """What torch makes of one value, from the widest dtype that is cast without a detour.

    float64 reaches the narrow dtypes by way of float32, which would round twice.
    """
    wide = torch.float64 if fmt is FP32 else torch.float32
    source = torch.tensor([value], dtype=wide)
    assert source.double().item() == value, "the test value must be exact"
    return float(source.to(dtype_of(fmt)).double().item())


def neighbours(fmt: NumberFormat, value: float) -> tuple[float, float]:
    """The values one unit in the last place below and above, in the dtype that ``cast`` uses."""
    wide = torch.float64 if fmt is FP32 else torch.float32
    here = torch.tensor(value, dtype=wide)
    below, above = (torch.nextafter(here, here.new_tensor(end)) for end in (0.0, math.inf))
    return below.double().item(), above.double().item()


@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_every_code_means_what_the_definition_says(fmt: NumberFormat) -> None:
    values = [decoded(fmt, code) for code in range(1 << bits_of(fmt))]
    exact = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(all_codes(fmt).nan_to_num(nan=-7.0), exact.nan_to_num(nan=-7.0))


@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_the_extremes_are_those_of_the_codes(fmt: NumberFormat) -> None:
    codes = all_codes(fmt)
    positive = codes[codes.isfinite() & (codes > 0)]
    assert fmt.max_finite == positive.max().item()
    assert fmt.smallest_subnormal == positive.min().item()
    subnormals = (1 << fmt.mantissa_bits) - 1
    assert fmt.smallest_normal == positive.sort().values[subnormals].item()
    assert bool(codes.isinf().any()) == fmt.has_infinity


@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_no_code_of_the_format_itself_is_flushed_or_overflows(fmt: NumberFormat) -> None:
    magnitudes = all_codes(fmt).abs()
    for magnitude in magnitudes[magnitudes.isfinite() & (magnitudes > 0)].tolist():
        assert magnitude > fmt.flush_threshold
        assert not fmt.overflows(magnitude)


@pytest.mark.parametrize("fmt", WITH_DTYPE, ids=ids)
def test_the_facts_agree_with_finfo(fmt: NumberFormat) -> None:
    facts = torch.finfo(dtype_of(fmt))
    assert fmt.max_finite == facts.max
    assert fmt.smallest_normal == facts.smallest_normal
    assert 2 * fmt.unit_roundoff == facts.eps
    assert bits_of(fmt) == facts.bits


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("fmt", WITH_DTYPE, ids=ids)
def test_torch_flushes_up_to_the_flush_threshold_and_not_beyond(
    fmt: NumberFormat, sign: float
) -> None:
    below, above = neighbours(fmt, fmt.flush_threshold)
    assert below < fmt.flush_threshold < above
    assert cast(fmt, sign * below) == 0.0
    assert cast(fmt, sign * fmt.flush_threshold) == 0.0
    assert cast(fmt, sign * above) == sign * fmt.smallest_subnormal


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("fmt", WITH_DTYPE, ids=ids)
def test_torch_overflows_where_the_format_says(fmt: NumberFormat, sign: float) -> None:
    for value in (*neighbours(fmt, fmt.overflow_threshold), fmt.overflow_threshold):
        result = cast(fmt, sign * value)
        if not fmt.overflows(value):
            assert result == sign * fmt.max_finite
        elif fmt.has_infinity:
            assert result == sign * math.inf
        else:
            assert math.isnan(result) or result == sign * fmt.max_finite


@pytest.mark.parametrize("fmt", WITH_DTYPE, ids=ids)
def test_overflow_begins_exactly_at_the_threshold(fmt: NumberFormat) -> None:
    below, above = neighbours(fmt, fmt.overflow_threshold)
    assert not fmt.overflows(below)
    assert fmt.overflows(fmt.overflow_threshold) == fmt.overflow_is_inclusive
    assert fmt.overflows(above)
    assert fmt.overflows(math.inf)
    assert not fmt.overflows(math.nan)


@pytest.mark.parametrize("fmt", NARROW, ids=ids)
def test_torch_rounds_to_nearest_even_between_all_neighbouring_codes(fmt: NumberFormat) -> None:
    """What both thresholds rest on: a tie goes to the even code, everywhere in the format."""
    codes = all_codes(fmt)[: 1 << (bits_of(fmt) - 1)]
    codes = codes[codes.isfinite()]
    low, high = codes[:-1], codes[1:]
    middle = ((low + high) / 2).float()
    assert torch.equal(middle.double(), (low + high) / 2)
    even = torch.where(torch.arange(len(low)) % 2 == 0, low, high)
    assert torch.equal(middle.to(dtype_of(fmt)).double(), even)
    just_above = torch.nextafter(middle, torch.tensor(math.inf)).to(dtype_of(fmt)).double()
    just_below = torch.nextafter(middle, torch.tensor(0.0)).to(dtype_of(fmt)).double()
    assert torch.equal(just_above, high)
    assert torch.equal(just_below, low)


def test_published_numbers() -> None:
    """Micikevicius et al. 2018, section 3, and OCP OFP8, table 1."""
    assert (FP16.smallest_subnormal, FP16.smallest_normal) == (2.0**-24, 2.0**-14)
    assert (FP16.max_finite, FP16.overflow_threshold) == (65504.0, 65520.0)
    assert (E4M3.max_finite, E4M3.smallest_normal) == (448.0, 2.0**-6)
    assert (E4M3.smallest_subnormal, E5M2.smallest_subnormal) == (2.0**-9, 2.0**-16)
    assert (E5M2.max_finite, E5M2.smallest_normal) == (57344.0, 2.0**-14)


def test_tf32_has_the_range_of_fp32_and_the_precision_of_fp16() -> None:
    assert TF32.dtype is None
    assert (TF32.bias, TF32.max_exponent) == (FP32.bias, FP32.max_exponent)
    assert TF32.smallest_normal == FP32.smallest_normal
    assert TF32.unit_roundoff == FP16.unit_roundoff
    assert TF32.max_finite == (2.0 - 2.0**-10) * 2.0**127


@pytest.mark.parametrize("name", ["fp16", "FP16", "Fp16"])
def test_a_format_is_found_by_name_in_any_case(name: str) -> None:
    assert get_format(name) is FP16


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown format 'fp17'") as caught:
        get_format("fp17")
    assert all(name in str(caught.value) for name in FORMATS)
