"""The sums of ``sums.py``, written down once more in plain NumPy: slow, and obviously right."""

from __future__ import annotations

import numpy as np

from precscope.probes.accumulation.sums import BLOCKS, Doubles, Floats, Sums


def reference_sums(addends: Floats) -> Sums:
    """The definition of ``sums_of``; equal to it bit for bit."""
    half = [half_sums(addends, block) for block in BLOCKS]
    exact = np.zeros(addends.shape[1])
    magnitude, peak = exact.copy(), exact.copy()
    for row in addends.astype(np.float64):
        exact = exact + row
        magnitude, peak = magnitude + abs(row), np.maximum(peak, abs(exact))
    accumulators, *tallies = (np.stack(column) for column in zip(*half, strict=True))
    return Sums(
        accumulators.astype(np.float32),
        _wide_sums(addends),
        np.stack((exact, magnitude, peak)),
        np.stack(tallies, 1),
    )


def half_sums(addends: Floats, block: int) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """FP16 accumulators of one block size: totals, energy, swamped energy and walk per sample."""
    total = np.zeros(addends.shape[1], np.float16)
    energy, swamped, walk = (np.zeros(addends.shape[1]) for _ in range(3))
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _block_sums(addends, block):
            square = part.astype(np.float64) ** 2
            swamped += np.where(abs(part) < _ulp(total) / 2, square, 0.0)
            energy += square
            total = (total.astype(np.float32) + part).astype(np.float16)
            walk += np.where(part != 0, (_ulp(total) / 2) ** 2, 0.0)
    return total.astype(np.float64), energy, swamped, walk


def _wide_sums(addends: Floats) -> Floats:
    total = np.zeros(addends.shape[1], np.float32)
    for part in _block_sums(addends, BLOCKS[-1]):
        total = total + part
    return total


def _block_sums(addends: Floats, block: int) -> list[Floats]:
    sums = []
    for first in range(0, len(addends), block):
        total = np.zeros(addends.shape[1], np.float32)
        for row in addends[first : first + block]:
            total = total + row
        sums.append(total)
    return sums


def _ulp(values: np.ndarray[tuple[int, ...], np.dtype[np.float16]]) -> Doubles:
    """Distance of FP16 numbers around each value; that of infinity is 2^118 times its own."""
    exponent = np.frexp(values.astype(np.float64))[1] - 1
    exponent = np.where(np.isfinite(values), np.where(values == 0, -14, exponent), 128)
    ulp: Doubles = np.ldexp(1.0, np.maximum(exponent, -14) - 10)
    return ulp
