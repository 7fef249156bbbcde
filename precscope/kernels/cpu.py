"""Observation of a CPU tensor: finds its memory and runs the compiled kernel over it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Final

import torch
from torch.compiler import is_compiling

from precscope.kernels import row as slots
from precscope.kernels.layout import dense_pieces, is_dense, without_repeats
from precscope.kernels.library import KERNELS, FormatKernel, format_kernel
from precscope.kernels.merge import merge_rows
from precscope.kernels.threads import run_all, thread_count

PARALLEL_FROM: Final = 1 << 21
"""Values from which on threads pay: one takes 0.2 ms for as many, to share them 50 us."""

ROW_DTYPE: Final = torch.int64
ROW_SHAPE: Final = (slots.ROW_SLOTS,)
STRIDED: Final = torch.strided

Observer = Callable[[torch.Tensor], None]
ObserverOfMany = Callable[[Sequence[torch.Tensor]], bool]

PART_STEP: Final = 4096
"""Threads start at multiples of the kernel's chunk."""


def observe_cpu(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Add a CPU tensor's statistics to a row; see ``observe_reference`` for the definition.

    Reads every value once, in place if the tensor is dense in any order of its dimensions. An
    expanded tensor is read once and counted as often as it repeats. Other strided tensors are
    copied, 1 MiB at a time. Counts and amax are exact and do not depend on the number of threads;
    sums are float64 and the same for the same number of threads.

    Args:
        tensor: float64, float32, float16, bfloat16 or an 8-bit float format; any shape, may be
            empty; gradients are not recorded.
        row: int64, contiguous, shape ``(562,)``, on the CPU.

    Raises:
        TypeError: another dtype, a tensor without strided storage of its own, or a wrong row.
    """
    kernel = format_kernel(tensor.dtype)
    check_row(row)
    if tensor.layout is not STRIDED:
        raise TypeError(f"cannot observe a {tensor.layout} tensor: pass its values")
    size = tensor.numel()
    if size == 0:
        _add_observation(kernel, row)
    elif tensor.is_contiguous():
        _observe_dense(kernel, tensor, size, row)
    else:
        _observe_strided(kernel, tensor.detach(), row)


def cpu_observer(row: torch.Tensor, otherwise: Observer) -> Observer:
    """``observe_cpu`` for one row, which is checked now and not in each call.

    Args:
        row: as for ``observe_cpu``.
        otherwise: observes what is not contiguous, large enough for threads, or refused.

    Raises:
        TypeError: a wrong row.
    """
    check_row(row)
    place = row.data_ptr()

    def observe_contiguous(tensor: torch.Tensor) -> None:
        # Hundreds of calls a step: each line counts. ``otherwise`` keeps the row alive.
        kernel = None if is_compiling() else KERNELS.get(tensor.dtype)
        if kernel is None or not tensor.is_cpu or tensor.layout is not STRIDED:
            otherwise(tensor)
            return
        size = tensor.numel()
        if not 0 < size < PARALLEL_FROM or not tensor.is_contiguous():
            otherwise(tensor)
        elif address := tensor.data_ptr():
            kernel.call(address, size, place, kernel.table_address)
        else:
            otherwise(tensor)

    return observe_contiguous


def cpu_observer_of_many(rows: Sequence[torch.Tensor]) -> ObserverOfMany:
    """Observes as many tensors as rows in one foreign call, or none of them.

    The function returned says whether it has: not if they are of several dtypes or on another
    device, nor if one is empty, not contiguous, or all together are large enough for threads.

    Raises:
        TypeError: a wrong row.
    """
    for row in rows:
        check_row(row)
    kept, places = tuple(rows), array("Q", [row.data_ptr() for row in rows])

    def observe_all(tensors: Sequence[torch.Tensor]) -> bool:
        kernel = KERNELS.get(tensors[0].dtype) if len(tensors) == len(kept) > 0 else None
        if kernel is None or not _are_plain(tensors, tensors[0].dtype):
            return False
        sizes = array("Q", [tensor.numel() for tensor in tensors])
        addresses = array("Q", [tensor.data_ptr() for tensor in tensors])
        if 0 in addresses or sum(sizes) >= PARALLEL_FROM:
            return False
        _call_jobs(kernel, addresses, sizes, places)
        return True

    return observe_all


def _are_plain(tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    for tensor in tensors:
        if tensor.dtype is not dtype or not tensor.is_cpu or tensor.layout is not STRIDED:
            return False
        if not tensor.is_contiguous():
            return False
    return not is_compiling()


def observe_many_cpu(tensors: list[torch.Tensor], rows: list[torch.Tensor]) -> None:
    """Add dense CPU tensors of one dtype, one for each row, in one foreign call.

    In one for each thread, if they are large together and no row occurs twice. No tensor is shared
    among threads: the sums are those of one thread.

    Args:
        tensors: of one dtype, contiguous, not empty.
        rows: as many, checked.

    Raises:
        TypeError: the dtype is none that can be observed; nothing has been observed.
    """
    kernel = format_kernel(tensors[0].dtype)
    sizes = [tensor.numel() for tensor in tensors]
    places = [row.data_ptr() for row in rows]
    threads = thread_count() if sum(sizes) >= PARALLEL_FROM else 1
    if threads == 1 or len(set(places)) < len(places):
        _run_jobs(kernel, tensors, sizes, places)
        return
    bounds = _even_bounds(sizes, threads)
    run_all(
        [
            partial(_run_jobs, kernel, tensors[start:end], sizes[start:end], places[start:end])
            for start, end in pairwise(bounds)
        ]
    )


def _run_jobs(
    kernel: FormatKernel, tensors: list[torch.Tensor], sizes: list[int], places: list[int]
) -> None:
    addresses = array("Q", [tensor.data_ptr() for tensor in tensors])
    _call_jobs(kernel, addresses, array("Q", sizes), array("Q", places))


def _call_jobs(
    kernel: FormatKernel, addresses: array[int], sizes: array[int], places: array[int]
) -> None:
    words = array("Q", bytes(24 * len(places)))
    words[0::3], words[1::3], words[2::3] = addresses, sizes, places
    kernel.call(words.buffer_info()[0], len(places), 0, kernel.table_address)


def _even_bounds(sizes: list[int], parts: int) -> list[int]:
    """Where to cut a list such that each part has about the same total."""
    totals = list(accumulate(sizes))
    return [0, *(bisect_left(totals, totals[-1] * i // parts) for i in range(1, parts)), len(sizes)]


def check_row(row: torch.Tensor) -> None:
    """Refuse a row that the kernel must not write to.

    Raises:
        TypeError: it is not a contiguous int64 tensor of shape ``(562,)`` on the CPU.
    """
    right = row.dtype is ROW_DTYPE and row.is_cpu and row.shape == ROW_SHAPE
    if not right or not row.is_contiguous():
        raise TypeError(
            f"row must be a contiguous int64 CPU tensor of shape ({slots.ROW_SLOTS},), "
            f"not {row.dtype} {tuple(row.shape)} on {row.device}: make it with new_rows()"
        )


def _add_observation(kernel: FormatKernel, row: torch.Tensor) -> None:
    kernel.call(0, 0, row.data_ptr(), kernel.table_address)


def _observe_dense(
    kernel: FormatKernel, tensor: torch.Tensor, size: int, row: torch.Tensor
) -> None:
    address = tensor.data_ptr()
    if address == 0:
        raise TypeError(f"cannot observe a {type(tensor).__name__}: it has no memory of its own")
    if size >= PARALLEL_FROM and (threads := thread_count()) > 1:
        _observe_parallel(kernel, tensor, row, threads)
    else:
        kernel.call(address, size, row.data_ptr(), kernel.table_address)


def _observe_strided(kernel: FormatKernel, tensor: torch.Tensor, row: torch.Tensor) -> None:
    if is_dense(tensor):
        _observe_dense(kernel, tensor, tensor.numel(), row)
        return
    values, times = without_repeats(tensor)
    once = slots.new_rows(1)[0]
    for piece in dense_pieces(values):
        _observe_dense(kernel, piece, piece.numel(), once)
    once[slots.OBSERVATIONS] = 1
    merge_rows(row, once, times)


def _observe_parallel(
    kernel: FormatKernel, tensor: torch.Tensor, row: torch.Tensor, threads: int
) -> None:
    others = slots.new_rows(threads - 1)
    run_all(_part_tasks(kernel, tensor, [row, *others]))
    others[:, slots.OBSERVATIONS] = 0
    for part in others:
        merge_rows(row, part)


def _part_tasks(
    kernel: FormatKernel, tensor: torch.Tensor, parts: list[torch.Tensor]
) -> list[Callable[[], None]]:
    size = tensor.numel()
    chunks = -(-size // PART_STEP)
    bounds = [min(i * chunks // len(parts) * PART_STEP, size) for i in range(len(parts) + 1)]
    tasks = zip(bounds[:-1], bounds[1:], parts, strict=True)
    return [partial(_observe_part, kernel, tensor, *task) for task in tasks]


def _observe_part(
    kernel: FormatKernel, tensor: torch.Tensor, start: int, end: int, part: torch.Tensor
) -> None:
    # Holds the tensors themselves: an interrupted caller must not free memory that is being read.
    address = tensor.data_ptr() + start * kernel.itemsize_bytes
    kernel.call(address, end - start, part.data_ptr(), kernel.table_address)
