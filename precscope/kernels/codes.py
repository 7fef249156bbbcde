"""8-bit formats on a device: count the 256 codes, then add what each of them means to the row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from precscope.kernels import row as slots
from precscope.kernels.launching import on, programs, sent
from precscope.kernels.reference import observe_reference


@dataclass(frozen=True, slots=True)
class CodeTable:
    """What each code of a format is.

    Attributes:
        slots: ``(256,)`` int64, the slot that counts it.
        powers: ``(256,)`` int64, its slot among the powers; the unused slot 7 if it is none.
        values: ``(256,)`` float64, its magnitude; 0 where it is not finite.
    """

    slots: torch.Tensor
    powers: torch.Tensor
    values: torch.Tensor


_tables: dict[tuple[torch.dtype, torch.device], CodeTable] = {}


def is_ready(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the table of a format lies on the device already."""
    return (dtype, device) in _tables


def code_table(dtype: torch.dtype, device: torch.device) -> CodeTable:
    """The table of an 8-bit format on a device; made once."""
    if not is_ready(dtype, device):
        _tables[dtype, device] = _make_table(dtype, device)
    return _tables[dtype, device]


def _make_table(dtype: torch.dtype, device: torch.device) -> CodeTable:
    """By the reference: one observation for each code."""
    codes = torch.arange(256, dtype=torch.uint8).view(dtype)
    rows = slots.new_rows(256)
    for code, row in zip(codes, rows, strict=True):
        observe_reference(code, row)
    counted = rows.clone()
    counted[:, slots.OBSERVATIONS] = counted[:, slots.AMAX : slots.COUNTS] = 0
    powers = counted[:, slots.POWERS :].clone()
    counted[:, slots.AMAX : slots.COUNTS] = counted[:, slots.POWERS :] = 0
    unused = slots.COUNTS - 1
    place = torch.where(powers.any(1), powers.argmax(1) + slots.POWERS, unused)
    values = rows.view(torch.float64)[:, slots.AMAX].clone()
    return CodeTable(*(sent(part, device) for part in (counted.argmax(1), place, values)))


def add_codes(flat: torch.Tensor, row: torch.Tensor) -> None:
    """Add the observation of an 8-bit tensor ``(n,)`` to a row on its device."""
    from precscope.kernels import triton_kernel as kernel

    table = code_table(flat.dtype, flat.device)
    codes = torch.zeros(256, dtype=torch.int64, device=flat.device)
    grid = (max(1, min(-(-flat.numel() // kernel.CODES_TILE), programs(flat.device))),)
    with on(flat.device):
        kernel.count_codes[grid](
            flat.view(torch.uint8), flat.numel(), codes, WIDTH=kernel.CODES_TILE, **kernel.LAUNCH
        )
    row[slots.OBSERVATIONS] += 1
    row.scatter_add_(0, table.slots, codes)
    row.scatter_add_(0, table.powers, codes)
    row[slots.COUNTS - 1] = 0
    _add_sums(row.view(torch.float64), codes, table.values)


def _add_sums(floats: torch.Tensor, codes: torch.Tensor, values: torch.Tensor) -> None:
    times = codes.to(torch.float64)
    largest = torch.where(codes > 0, values, 0.0).max()
    floats[slots.AMAX] = torch.maximum(floats[slots.AMAX], largest)
    floats[slots.SUM_ABS] += torch.dot(times, values)
    floats[slots.SUM_SQUARES] += torch.dot(times, values.square())
