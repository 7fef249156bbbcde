"""Floating-point formats: a few stored facts, everything else derived from them.

A format with ``e`` exponent bits and ``m`` mantissa bits represents

    (-1)^s * 2^(E - bias) * (1 + f / 2^m)     normal numbers, 1 <= E
    (-1)^s * 2^(1 - bias) * (f / 2^m)         subnormal numbers, E = 0

with ``bias = 2^(e-1) - 1`` (IEEE 754-2019, section 3.4; OCP OFP8 for E4M3 and E5M2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from precscope.errors import UsageError


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A binary floating-point format.

    Attributes:
        name: short name used on the command line and in reports.
        exponent_bits: width of the exponent field.
        mantissa_bits: width of the stored mantissa (the implicit bit is not counted).
        has_infinity: False for E4M3, whose top exponent holds ordinary numbers and whose
            only special code, all ones, is NaN.
        dtype: the torch dtype with these codes, None where torch has none (TF32 is a
            multiplication mode on float32 storage).
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    has_infinity: bool
    dtype: torch.dtype | None

    @property
    def bias(self) -> int:
        """Exponent bias, ``2^(e-1) - 1``."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def log2_smallest_normal(self) -> int:
        """Base-2 logarithm of the smallest normal number, ``1 - bias``."""
        return 1 - self.bias

    @property
    def log2_smallest_subnormal(self) -> int:
        """Base-2 logarithm of the smallest positive number, ``1 - bias - m``."""
        return self.log2_smallest_normal - self.mantissa_bits

    @property
    def smallest_normal(self) -> float:
        """Smallest number with full precision, ``2^(1 - bias)`` (FP16: 2^-14)."""
        return 2.0**self.log2_smallest_normal

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive number, ``2^(1 - bias - m)`` (FP16: 2^-24)."""
        return 2.0**self.log2_smallest_subnormal

    @property
    def max_exponent(self) -> int:
        """Largest exponent of a finite number (FP16: 15)."""
        return self.bias if self.has_infinity else self.bias + 1

    @property
    def largest_significand_step(self) -> int:
        """Mantissa field of the largest finite number: all ones, less NaN's code if it has one."""
        return (1 << self.mantissa_bits) - (1 if self.has_infinity else 2)

    @property
    def max_finite(self) -> float:
        """Largest finite number, ``2^max_exponent (1 + step / 2^m)`` (FP16: 65504)."""
        significand: float = 1 + self.largest_significand_step / 2**self.mantissa_bits
        return significand * 2.0**self.max_exponent

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest a normal number, ``2^-(m+1)``."""
        return 2.0 ** -(self.mantissa_bits + 1)

    @property
    def log2_flush_threshold(self) -> int:
        """Base-2 logarithm of half the smallest subnormal (FP16: -25)."""
        return self.log2_smallest_subnormal - 1

    @property
    def flush_threshold(self) -> float:
        """Magnitudes up to and including this one round to zero (FP16: 2^-25).

        Half the smallest subnormal lies midway between it and zero; ties go to the even code, 0.
        """
        return 2.0**self.log2_flush_threshold

    @property
    def overflow_threshold(self) -> float:
        """Midpoint between the largest finite number and the one that would follow it.

        FP16: 65520. See ``overflow_is_inclusive`` for what happens at the midpoint itself.
        What lies beyond becomes infinity. E4M3 has none: OFP8 allows NaN and the largest finite
        number there, and torch gives one or the other by version (2.13 on CPU: 448, also for
        infinity), so in E4M3 an overflow may leave no trace in the values.
        """
        return self.max_finite + 2.0 ** (self.max_exponent - self.mantissa_bits - 1)

    @property
    def overflow_is_inclusive(self) -> bool:
        """Whether ``overflow_threshold`` itself overflows: so if the largest finite code is odd.

        FP16's largest code ends in 1, so the tie goes up to infinity. E4M3's ends in 0, so the
        tie (464) rounds down to 448.
        """
        return self.largest_significand_step % 2 == 1

    def overflows(self, magnitude: float) -> bool:
        """Whether ``|x| = magnitude`` rounds past the largest finite number.

        True for infinity, False for NaN. ``magnitude`` is not negative.
        """
        if self.overflow_is_inclusive:
            return magnitude >= self.overflow_threshold
        return magnitude > self.overflow_threshold


FP32 = NumberFormat("fp32", 8, 23, True, torch.float32)
TF32 = NumberFormat("tf32", 8, 10, True, None)
BF16 = NumberFormat("bf16", 8, 7, True, torch.bfloat16)
FP16 = NumberFormat("fp16", 5, 10, True, torch.float16)
E4M3 = NumberFormat("e4m3", 4, 3, False, torch.float8_e4m3fn)
E5M2 = NumberFormat("e5m2", 5, 2, True, torch.float8_e5m2)

FORMATS: dict[str, NumberFormat] = {f.name: f for f in (FP32, TF32, BF16, FP16, E4M3, E5M2)}


def get_format(name: str) -> NumberFormat:
    """Look a format up by name, case-insensitively.

    Raises:
        UsageError: no such format; the message lists those that exist.
    """
    try:
        return FORMATS[name.lower()]
    except KeyError:
        raise UsageError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}") from None
