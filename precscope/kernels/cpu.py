"""Observation of a CPU tensor: finds its memory and runs the compiled kernel over it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch

from precscope.kernels import row as slots
from precscope.kernels.layout import dense_pieces, is_dense, without_repeats
from precscope.kernels.library import FormatKernel, format_kernel
from precscope.kernels.merge import merge_rows
from precscope.kernels.threads import run_all, thread_count

PARALLEL_FROM: Final = 1 << 20
"""Values from which on threads pay: one takes about 0.2 ms for as many."""

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
    if tensor.layout is not torch.strided:
        raise TypeError(f"cannot observe a {tensor.layout} tensor: pass its values")
    size = tensor.numel()
    if size == 0:
        _add_observation(kernel, row)
    elif tensor.is_contiguous():
        _observe_dense(kernel, tensor, size, row)
    else:
        _observe_strided(kernel, tensor.detach(), row)


def check_row(row: torch.Tensor) -> None:
    """Refuse a row that the kernel must not write to.

    Raises:
        TypeError: it is not a contiguous int64 tensor of shape ``(562,)`` on the CPU.
    """
    right = row.dtype is torch.int64 and row.is_cpu and row.shape == (slots.ROW_SLOTS,)
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
    parts = slots.new_rows(threads)
    run_all(_part_tasks(kernel, tensor, parts))
    parts[:, slots.OBSERVATIONS] = 0
    for part in parts:
        merge_rows(row, part)
    _add_observation(kernel, row)


def _part_tasks(
    kernel: FormatKernel, tensor: torch.Tensor, parts: torch.Tensor
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
