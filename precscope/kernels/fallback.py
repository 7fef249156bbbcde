"""Observation by ordinary torch operations, for any device that has float64.

Nothing is read back to the host: the counts are scattered into the row where it lies. Slower
than a kernel of one's own by the number of passes over the tensor, about fifteen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch

from precscope.histogram import BINS, MIN_EXPONENT
from precscope.kernels import row as slots

PIECE: Final = 1 << 22
"""Values at a time: bounds the temporaries to some 250 MiB."""

MAGNITUDE: Final = 0x7FFF_FFFF_FFFF_FFFF
MANTISSA: Final = 0x000F_FFFF_FFFF_FFFF
MANTISSA_BITS: Final = 52
TOP_FIELD: Final = 2047
BIAS: Final = 1023


def observe_fallback(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Add a tensor's statistics to a row on the same device, without synchronising.

    The same counts as ``observe_reference``; sums agree to rounding.

    Args:
        tensor: floating-point values of any shape and layout; may be empty.
        row: int64, shape ``(562,)``, on the tensor's device.
    """
    row[slots.OBSERVATIONS] += 1
    for piece in _pieces(tensor.detach()):
        values = piece.to(torch.float64).abs().reshape(-1)
        magnitudes = values.contiguous().view(torch.int64) & MAGNITUDE
        _count(magnitudes, row)
        _add_sums(magnitudes, row.view(torch.float64))


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    if tensor.numel() <= PIECE:
        if tensor.numel():
            yield tensor
        return
    longest = max(range(tensor.dim()), key=tensor.size)
    for half in tensor.tensor_split(2, longest):
        yield from _pieces(half)


def _count(magnitudes: torch.Tensor, row: torch.Tensor) -> None:
    field, mantissa = magnitudes >> MANTISSA_BITS, magnitudes & MANTISSA
    exponent_bin = (field - (BIAS + MIN_EXPONENT)).clamp_(0, BINS - 1)
    special = torch.where(mantissa == 0, slots.INFINITIES, slots.NANS)
    slot = torch.where(field == TOP_FIELD, special, exponent_bin + slots.COUNTS)
    slot = torch.where(magnitudes == 0, slots.ZEROS, slot)
    row.scatter_add_(0, slot, torch.ones_like(slot))
    # A normal power of two has no mantissa bit, a subnormal one has exactly one.
    one_bit = torch.where(field == 0, mantissa & (mantissa - 1), mantissa) == 0
    power = one_bit & (magnitudes != 0) & (field != TOP_FIELD)
    row.scatter_add_(0, exponent_bin + slots.POWERS, power.to(torch.int64))


def _add_sums(magnitudes: torch.Tensor, floats: torch.Tensor) -> None:
    values = magnitudes.view(torch.float64)
    finite = torch.where(magnitudes >> MANTISSA_BITS == TOP_FIELD, 0.0, values)
    amax = floats[slots.AMAX]
    amax.copy_(torch.maximum(amax, finite.amax()))
    floats[slots.SUM_ABS] += finite.sum()
    floats[slots.SUM_SQUARES] += finite.square().sum()
