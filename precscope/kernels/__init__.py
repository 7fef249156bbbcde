"""Observation: counts, amax and sums of a tensor, added to a row in one pass.

``observe`` is the one entry; which kernel runs is decided by the tensor's device. Importing this
package compiles nothing and does not import numba.
"""

from __future__ import annotations

import torch

from precscope.kernels.merge import merge_rows
from precscope.kernels.operator import observe_eager, observe_operator
from precscope.kernels.row import ROW_SLOTS, new_rows, to_histogram

__all__ = ["ROW_SLOTS", "merge_rows", "new_rows", "observe", "to_histogram"]


def observe(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Add a tensor's statistics to a row; works in eager code and inside ``torch.compile``.

    Finite non-zero values are counted at ``floor(log2 |x|)``, exact powers of two once more,
    zeros, infinities and NaNs apart; amax and the sums of ``|x|`` and ``x^2`` are over the finite
    values. ``OBSERVATIONS`` grows by one, also for an empty tensor. On another device than the
    CPU nothing is synchronised, if the row lies there too.

    Args:
        tensor: floating point, any shape and layout; never changed, no gradient recorded.
        row: int64, shape ``(562,)``, from ``new_rows``; changed in place.

    Raises:
        TypeError: the tensor is not floating point or has no memory of its own, or the row is
            not one.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"cannot observe a {tensor.dtype} tensor: pass floating-point values")
    if torch.compiler.is_compiling():
        observe_operator(tensor, row)
    else:
        observe_eager(tensor, row)
