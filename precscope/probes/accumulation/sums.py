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
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BLOCKS: Final = (1, 4, 8, 16)
_BLOCK_SIZES: Final = np.array(BLOCKS, np.uint64)

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of ``m`` samples.

    Attributes:
        half: FP16 accumulators per block size, shape (4, m), as float64; may be infinite.
        wide: float32 accumulators after the one rounding to FP16, shape (m,).
        exact: float64 sums, shape (m,).
        magnitude: sum of |p|, shape (m,).
        peak: largest |partial sum| on the way, in float64, shape (m,).
        energy: sum of squared block sums s_n, shape (4, m).
        swamped: the part of ``energy`` with |s_n| < ulp16(a_n) / 2, shape (4, m).
        walk: sum of (ulp16(a_(n+1)) / 2)^2 over the s_n that are not zero, shape (4, m): what the
            roundings can add up to.
    """

    half: Doubles
    wide: Doubles
    exact: Doubles
    magnitude: Doubles
    peak: Doubles
    energy: Doubles
    swamped: Doubles
    walk: Doubles


def sums_of(addends: Floats) -> Sums:
    """Add up the columns of ``addends``.

    Args:
        addends: finite, shape (K, m), C-contiguous: one column per sample, in order of summation.
    """
    from precscope.probes.accumulation.compiled import sums

    kinds, samples = len(BLOCKS), addends.shape[1]
    halves, wide = np.zeros((kinds, samples), np.float32), np.zeros(samples, np.float32)
    exact, tallies = np.zeros((3, samples)), np.zeros((kinds, 3, samples))
    sums()(addends, _BLOCK_SIZES, halves, wide, exact, tallies)
    return Sums(halves.astype(np.float64), to_half(wide), *exact, *tallies.swapaxes(0, 1))


def stacked(found: Sequence[Sums]) -> Sums:
    """Sums of as many samples each, stacked along a new first dimension."""
    parts = ([getattr(sums, field.name) for sums in found] for field in fields(Sums))
    return Sums(*map(np.stack, parts))


def prepare() -> None:
    """Compile, or load, what ``sums_of`` runs: seconds the first time, which are no measurement."""
    sums_of(np.zeros((1, 1), np.float32))


def to_half(values: npt.NDArray[Any]) -> Doubles:
    """Values after a store in FP16, as float64; infinite from 65520 on."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)
