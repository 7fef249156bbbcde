"""Observation of a tensor on an accelerator: by the Triton kernel, or by torch operations without it.

Nothing is read back to the host: rows stay on the device until a flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Final

import torch

from precscope.kernels import row as slots
from precscope.kernels.codes import add_codes, is_ready
from precscope.kernels.fallback import observe_fallback
from precscope.kernels.launching import is_capturing, on, programs, sent
from precscope.kernels.layout import is_dense, without_repeats

KINDS: Final = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""The formats of the kernel, as it numbers them."""

PIECE: Final = 1 << 16
"""Values of one job: small enough that many processors share a large weight."""

_reasons: dict[str, str] = {}


def why_no_kernel(device_type: str) -> str | None:
    """Why the Triton kernel does not run on this kind of device; None if it does, or may."""
    if device_type in _reasons:
        return _reasons[device_type]
    if device_type != "cuda":
        return f"the kernel is for CUDA devices, not {device_type}"
    return None if _has_triton() else "triton is not installed"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def observe_on_device(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Add a tensor's statistics to a row on the same device, without synchronising.

    The kernel where there is one; plain torch operations for float64, on other devices, without
    Triton, and from then on where the kernel could not be launched.

    Raises:
        TypeError: the tensor is not floating point.
        torch.OutOfMemoryError: no room for the copy that a tensor with gaps needs. The kernel is
            not to blame, and goes on with other tensors.
    """
    if not tensor.is_floating_point():
        raise TypeError(f"cannot observe a {tensor.dtype} tensor: pass floating-point values")
    if tensor.dtype is torch.float64 or why_no_kernel(tensor.device.type):
        observe_fallback(tensor, row)
        return
    try:
        launch(tensor.detach(), row)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a driver or compiler that does not do is no reason to stop
        _give_up(tensor.device.type, error)
        observe_fallback(tensor, row)


def _give_up(device_type: str, error: Exception) -> None:
    _reasons[device_type] = f"{type(error).__name__}: {error}".splitlines()[0]


def launch(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Run the kernel over a tensor of any layout: dense ones in place, others through a copy."""
    values, times = without_repeats(tensor)
    flat = flattened(values)
    if times == 1:
        _launch_flat(flat, row)
        return
    once = slots.new_rows(1, row.device)[0]
    _launch_flat(flat, once)
    _merge(row, once, times)


def flattened(tensor: torch.Tensor) -> torch.Tensor:
    """The values in one dimension, in the order of memory; a view if they are dense there."""
    if is_dense(tensor):
        return tensor.as_strided((tensor.numel(),), (1,), tensor.storage_offset())
    return tensor.reshape(-1)


def _launch_flat(flat: torch.Tensor, row: torch.Tensor) -> None:
    if flat.dtype not in KINDS:
        # A table that is made while a CUDA graph is captured is filled by its replay only.
        usable = is_ready(flat.dtype, flat.device) or not is_capturing()
        (add_codes if usable else observe_fallback)(flat, row)
        return
    from precscope.kernels import triton_kernel as kernel

    tiles = -(-flat.numel() // kernel.TILE)
    grid = (max(1, min(tiles, programs(flat.device))),)
    with on(flat.device):
        kernel.observe_one[grid](
            flat.view(torch.int32 if flat.itemsize == 4 else torch.int16),
            flat.numel(),
            row,
            KIND=KINDS[flat.dtype],
            WIDTH=kernel.TILE,
            PLANES=kernel.PLANES,
            **kernel.LAUNCH,
        )


def observe_many_on_device(tensors: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> None:
    """Dense tensors of one 16- or 32-bit format on one device, in one launch."""
    try:
        launch_many(tensors, rows)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - as above; nothing was launched
        _give_up(tensors[0].device.type, error)
        for tensor, row in zip(tensors, rows, strict=True):
            observe_fallback(tensor, row)


def launch_many(tensors: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> None:
    """Run the kernel over all of them, a program for each job."""
    from precscope.kernels import triton_kernel as kernel

    device = tensors[0].device
    table = sent(torch.tensor(_jobs(tensors, rows), dtype=torch.int64), device)
    with on(device):
        kernel.observe_jobs[(len(table),)](
            table,
            KIND=KINDS[tensors[0].dtype],
            WIDTH=kernel.TILE,
            PLANES=kernel.PLANES,
            **kernel.LAUNCH,
        )


def _jobs(tensors: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> list[list[int]]:
    """Address, size, address of the row, observations; a large tensor is several jobs."""
    jobs = []
    for tensor, row in zip(tensors, rows, strict=True):
        size, address = tensor.numel(), tensor.data_ptr()
        for start in range(0, max(size, 1), PIECE):
            piece = min(PIECE, size - start)
            place = address + start * tensor.itemsize
            jobs.append([place, piece, row.data_ptr(), int(start == 0)])
    return jobs


def can_share_launch(tensor: torch.Tensor, row: torch.Tensor) -> bool:
    """Whether ``observe_many_on_device`` may take it; inside a CUDA graph a job table may not."""
    return (
        tensor.is_cuda
        and tensor.dtype in KINDS
        and row.device == tensor.device
        and why_no_kernel("cuda") is None
        and is_dense(tensor)
        # The kernel that shares a launch loads words of 16 bytes.
        and tensor.data_ptr() % 16 == 0
        and not is_capturing()
    )


def _merge(into: torch.Tensor, row: torch.Tensor, times: int) -> None:
    """``merge_rows`` on the device."""
    floats, added = into.view(torch.float64), row.view(torch.float64)
    into[slots.OBSERVATIONS] += row[slots.OBSERVATIONS]
    into[slots.ZEROS : slots.AMAX] += row[slots.ZEROS : slots.AMAX] * times
    into[slots.COUNTS :] += row[slots.COUNTS :] * times
    floats[slots.AMAX] = torch.maximum(floats[slots.AMAX], added[slots.AMAX])
    sums = slice(slots.SUM_ABS, slots.SUM_SQUARES + 1)
    floats[sums] += added[sums] * times
