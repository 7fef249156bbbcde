"""The row: 562 int64 slots in which a kernel accumulates one site.

One layout for every device, so that a flush is a plain copy:

    0  OBSERVATIONS  calls that added to this row
    1  ZEROS         exact zeros of either sign
    2  INFINITIES    infinities of either sign
    3  NANS          NaNs
    4  AMAX          largest finite magnitude       (bits of a float64)
    5  SUM_ABS       sum of finite magnitudes       (bits of a float64)
    6  SUM_SQUARES   sum of squares of finite values (bits of a float64)
    7  (unused)
    8 ...            COUNTS: values per exponent, -149 to 127
    285 ...          POWERS: exact powers of two per exponent
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from precscope.histogram import BINS, ExponentHistogram

OBSERVATIONS: Final = 0
ZEROS: Final = 1
INFINITIES: Final = 2
NANS: Final = 3
AMAX: Final = 4
SUM_ABS: Final = 5
SUM_SQUARES: Final = 6
COUNTS: Final = 8
POWERS: Final = COUNTS + BINS
ROW_SLOTS: Final = POWERS + BINS


def new_rows(rows: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Empty rows, shape ``(rows, 562)``, int64. All-zero bits are also the float64 0.0."""
    return torch.zeros((rows, ROW_SLOTS), dtype=torch.int64, device=device)


def to_histogram(row: torch.Tensor) -> ExponentHistogram:
    """Read one row, shape ``(562,)``, already on the CPU, into an ExponentHistogram (a copy)."""
    return histogram_of(row.contiguous().numpy())


def histogram_of(values: npt.NDArray[np.int64]) -> ExponentHistogram:
    """``to_histogram`` for a row that is a contiguous array by now."""
    floats = values.view(np.float64)
    return ExponentHistogram(
        counts=values[COUNTS:POWERS].copy(),
        powers=values[POWERS:ROW_SLOTS].copy(),
        zeros=int(values[ZEROS]),
        infinities=int(values[INFINITIES]),
        nans=int(values[NANS]),
        amax=float(floats[AMAX]),
        sum_abs=float(floats[SUM_ABS]),
        sum_squares=float(floats[SUM_SQUARES]),
    )
