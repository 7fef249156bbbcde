"""FP16 arithmetic where the hardware has none: float32 products and sums, one rounding to half."""

from __future__ import annotations

from precscope.arithmetic.half_on_cpu import half_on_cpu

__all__ = ["half_on_cpu"]
