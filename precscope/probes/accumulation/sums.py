"""The same sums with FP16 accumulators of several block sizes, in float32 and exactly.

For the addends p of one sample, in order, and a block size b,

    s_n = p_(nb) + ... + p_(nb+b-1)                   in float32
    a_0 = 0,   a_(n+1) = fp16(fp32(a_n + s_n))        round to nearest even, infinity from 65520

``b = 1`` is a scalar FP16 accumulator, 4, 8 and 16 are tensor core blocks. Beside them: the sum
with float32 accumulators (blocks of 16) and one rounding to FP16 at the store, and the reference
in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCKS: Final = (1, 4, 8, 16)
_BLOCK_SIZES: Final = np.array(BLOCKS, np.uint64)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of ``m`` samples, as the compiled loop leaves them.

    Stacked sums of several places have one dimension more in every array, the first.

    Attributes:
        accumulators: last FP16 accumulator per block size, shape (4, m), float32.
        wide_accumulator: float32 accumulator before the one rounding to FP16, shape (m,).
        totals: ``exact``, ``magnitude`` and ``peak``, shape (3, m), float64.
        tallies: per block size ``energy``, ``swamped`` and ``walk``, shape (4, 3, m), float64.
    """

    accumulators: Floats
    wide_accumulator: Floats
    totals: Doubles
    tallies: Doubles

    @property
    def half(self) -> Doubles:
        """FP16 accumulators per block size, shape (4, m), as float64; may be infinite."""
        return self.accumulators.astype(np.float64)

    @property
    def wide(self) -> Doubles:
        """Float32 accumulators after the one rounding to FP16, shape (m,)."""
        return to_half(self.wide_accumulator)

    @property
    def exact(self) -> Doubles:
        """Float64 sums, shape (m,)."""
        return self.totals[..., 0, :]

    @property
    def magnitude(self) -> Doubles:
        """Sum of |p|, shape (m,)."""
        return self.totals[..., 1, :]

    @property
    def peak(self) -> Doubles:
        """Largest |partial sum| on the way, in float64, shape (m,)."""
        return self.totals[..., 2, :]

    @property
    def energy(self) -> Doubles:
        """Sum of squared block sums s_n, shape (4, m)."""
        return self.tallies[..., 0, :]

    @property
    def swamped(self) -> Doubles:
        """The part of ``energy`` with |s_n| < ulp16(a_n) / 2, shape (4, m)."""
        return self.tallies[..., 1, :]

    @property
    def walk(self) -> Doubles:
        """What the roundings can add up to, shape (4, m).

        Sum of (ulp16(a_(n+1)) / 2)^2 over the s_n that are not zero.
        """
        return self.tallies[..., 2, :]


def sums_of(addends: Floats) -> Sums:
    """Add up the columns of ``addends``.

    Args:
        addends: finite, shape (K, m), C-contiguous: one column per sample, in order of summation.
    """
    from precscope.probes.accumulation.compiled import sums

    kinds, samples = len(BLOCKS), addends.shape[1]
    halves, wide = np.zeros((kinds, samples), np.float32), np.zeros(samples, np.float32)
    totals, tallies = np.zeros((3, samples)), np.zeros((kinds, 3, samples))
    sums()(addends, _BLOCK_SIZES, halves, wide, totals, tallies)
    return Sums(halves, wide, totals, tallies)


def stacked(found: Sequence[Sums]) -> Sums:
    """Sums of as many samples each, stacked along a new first dimension."""
    return Sums(
        *(np.stack([getattr(sums, field.name) for sums in found]) for field in fields(Sums))
    )


@cache
def prepare() -> None:
    """Compile, or load, what ``sums_of`` runs: seconds the first time, which are no measurement."""
    sums_of(np.zeros((1, 1), np.float32))


def to_half(values: npt.NDArray[Any]) -> Doubles:
    """Values after a store in FP16, as float64; infinite from 65520 on."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)
