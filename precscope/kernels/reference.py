"""The definition of an observation, as plainly as it can be written. Slow; the test oracle."""

from __future__ import annotations

import numpy as np
import torch

from precscope.histogram import MAX_EXPONENT, MIN_EXPONENT
from precscope.kernels import row as slots


def observe_reference(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Add a tensor's statistics to a row, by the value of each element in float64.

    A finite non-zero ``x`` is counted at ``floor(log2 |x|)``, clamped to -149..127 (which only
    float64 leaves), and once more among the powers if ``|x|`` is a power of two. Zeros,
    infinities and NaNs are counted apart and enter neither amax nor the sums.

    Args:
        tensor: floating-point values of any shape, layout and device; may be empty.
        row: int64, shape ``(562,)``, on the CPU; see ``precscope.kernels.row``.
    """
    values = tensor.detach().cpu().to(torch.float64).abs().contiguous().numpy().reshape(-1)
    counts, floats = row.numpy(), row.numpy().view(np.float64)
    counts[slots.OBSERVATIONS] += 1
    counts[slots.ZEROS] += np.sum(values == 0)
    counts[slots.INFINITIES] += np.sum(np.isinf(values))
    counts[slots.NANS] += np.sum(np.isnan(values))
    finite = values[np.isfinite(values)]
    floats[slots.AMAX] = max(floats[slots.AMAX], finite.max(initial=0.0))
    floats[slots.SUM_ABS] += finite.sum()
    floats[slots.SUM_SQUARES] += np.square(finite).sum()
    significands, exponents = np.frexp(finite[finite > 0])
    # frexp's significand lies in [1/2, 1), so its exponent is one more than floor(log2 x).
    bins = np.clip(exponents - 1, MIN_EXPONENT, MAX_EXPONENT) - MIN_EXPONENT
    np.add.at(counts, slots.COUNTS + bins, 1)
    np.add.at(counts, slots.POWERS + bins[significands == 0.5], 1)
