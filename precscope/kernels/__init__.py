"""Observation: counts, amax and sums of a tensor, added to a row in one pass.

``observe`` is the one entry; which kernel runs is decided by the tensor's device. Importing this
package compiles nothing and does not import numba.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.compiler import is_compiling

from precscope.kernels.cpu import (
    PARALLEL_FROM,
    Observer,
    ObserverOfMany,
    check_row,
    cpu_observer,
    cpu_observer_of_many,
    observe_cpu,
    observe_many_cpu,
)
from precscope.kernels.device import can_share_launch, observe_many_on_device
from precscope.kernels.merge import merge_rows
from precscope.kernels.operator import observe_eager, observe_operator
from precscope.kernels.row import ROW_SLOTS, new_rows, to_histogram

__all__ = [
    "ROW_SLOTS",
    "Observer",
    "ObserverOfMany",
    "merge_rows",
    "new_rows",
    "observe",
    "observe_many",
    "observer",
    "observer_of_many",
    "to_histogram",
]


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
    if is_compiling():
        observe_operator(tensor, row)
    elif tensor.is_cpu:
        observe_cpu(tensor, row)
    else:
        observe_eager(tensor, row)


def observer(row: torch.Tensor) -> Observer:
    """``observe`` bound to a row, for a hook: what can be looked up once is looked up now.

    Args:
        row: as for ``observe``; the function returned keeps it alive.

    Raises:
        TypeError: a row on the CPU that is none.
    """

    def observe_here(tensor: torch.Tensor) -> None:
        observe(tensor, row)

    return cpu_observer(row, observe_here) if row.is_cpu else observe_here


def observer_of_many(rows: Sequence[torch.Tensor]) -> ObserverOfMany | None:
    """``observe_many`` bound to rows, for the same tensors again and again.

    Returns:
        a function that observes as many tensors as rows in one foreign call and gives True, or
        observes nothing and gives False: call ``observe_many`` then. None if a row is not on the
        CPU.

    Raises:
        TypeError: a row on the CPU that is none.
    """
    return cpu_observer_of_many(rows) if all(row.is_cpu for row in rows) else None


def observe_many(tensors: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> None:
    """Add each tensor's statistics to the row beside it: ``observe`` for every pair, but faster.

    The contiguous CPU tensors of one dtype take one foreign call together, the dense CUDA tensors of
    one dtype one launch; all others, and those on the CPU that are large enough for several
    threads, are observed one by one afterwards. A row may occur more than once.

    Args:
        tensors: floating point, any shapes, layouts and devices; never changed.
        rows: as many, each as for ``observe``; changed in place.

    Raises:
        TypeError: as for ``observe``. Which of the other tensors have been observed is not said.
        ValueError: not as many rows as tensors.
    """
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[torch.Tensor], list[torch.Tensor]]]
    groups, others = {}, []
    together = not is_compiling()
    for tensor, row in zip(tensors, rows, strict=True):
        if together and (_is_plain(tensor, row) or can_share_launch(tensor, row)):
            group = groups.setdefault((tensor.device, tensor.dtype), ([], []))
            group[0].append(tensor)
            group[1].append(row)
        else:
            others.append((tensor, row))
    for (device, _), group in groups.items():
        (observe_many_cpu if device.type == "cpu" else observe_many_on_device)(*group)
    for tensor, row in others:
        observe(tensor, row)


def _is_plain(tensor: torch.Tensor, row: torch.Tensor) -> bool:
    if not tensor.is_cpu or tensor.numel() >= PARALLEL_FROM or tensor.layout is not torch.strided:
        return False
    if not tensor.is_contiguous() or tensor.data_ptr() == 0:
        return False
    check_row(row)
    return True
