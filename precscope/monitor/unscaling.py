"""Taking a loss scale off rows of gradients, on the device: a shift of their counts.

A scale that is no power of two shifts by the nearest one; amax and the sums are divided by the
scale itself. Counts that would fall below 2^-149 are kept in that octave.
"""

from __future__ import annotations

import torch

from precscope.histogram import BINS
from precscope.kernels.row import AMAX, COUNTS, POWERS, ROW_SLOTS, SUM_ABS, SUM_SQUARES


def add_unscaled(
    total: torch.Tensor, rows: torch.Tensor, scale: torch.Tensor | float
) -> torch.Tensor:
    """Add ``rows``, counted from gradients times ``scale``, to ``total`` at their true scale.

    Args:
        total: ``(n, 562)`` int64, changed in place.
        rows: ``(n, 562)`` int64 on the same device.
        scale: positive; a tensor is not read back to the host.

    Returns:
        the true amax of each of ``rows``, ``(n,)`` float64.
    """
    factor = _on_device(scale, rows.device)
    shifted = torch.arange(BINS, device=rows.device) - factor.log2().round().long()
    shifted = shifted.clamp(0, BINS - 1)
    total[:, :AMAX] += rows[:, :AMAX]
    total[:, COUNTS:POWERS].index_add_(1, shifted, rows[:, COUNTS:POWERS])
    total[:, POWERS:ROW_SLOTS].index_add_(1, shifted, rows[:, POWERS:ROW_SLOTS])
    return _add_sums(total.view(torch.float64), rows.view(torch.float64), factor)


def _on_device(scale: torch.Tensor | float, device: torch.device) -> torch.Tensor:
    """The scale as a float64 of the device: a number is filled in there, a copy would wait."""
    if isinstance(scale, torch.Tensor):
        # In two steps: a device without float64 cannot convert. On the CPU it must have arrived.
        return scale.to(device, non_blocking=device.type == "cuda").to(torch.float64)
    return torch.full((), scale, dtype=torch.float64, device=device)


def _add_sums(total: torch.Tensor, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    amax = rows[:, AMAX] / factor
    total[:, AMAX] = torch.maximum(total[:, AMAX], amax)
    total[:, SUM_ABS] += rows[:, SUM_ABS] / factor
    total[:, SUM_SQUARES] += rows[:, SUM_SQUARES] / factor.square()
    return amax
