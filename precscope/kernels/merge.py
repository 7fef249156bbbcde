"""Adding rows: exact for every count, so threads can work on rows of their own."""

from __future__ import annotations

import numpy as np
import torch

from precscope.kernels import row as slots


def merge_rows(into: torch.Tensor, row: torch.Tensor, times: int = 1) -> None:
    """Add all that ``row`` has counted to ``into``, ``times`` times over; amax by maximum.

    Observations are added once, whatever ``times`` is.

    Args:
        into: int64, shape ``(562,)``, on the CPU; changed in place.
        row: int64, shape ``(562,)``, on the CPU.
        times: how often the values behind ``row`` occur, at least 1.
    """
    counts, added = into.numpy(), row.numpy()
    floats, added_floats = counts.view(np.float64), added.view(np.float64)
    counts[slots.OBSERVATIONS] += added[slots.OBSERVATIONS]
    counts[slots.ZEROS : slots.AMAX] += added[slots.ZEROS : slots.AMAX] * times
    counts[slots.COUNTS :] += added[slots.COUNTS :] * times
    floats[slots.AMAX] = max(floats[slots.AMAX], added_floats[slots.AMAX])
    sums = slice(slots.SUM_ABS, slots.SUM_SQUARES + 1)
    floats[sums] += added_floats[sums] * times
