"""Retention sums as one blob, and back.

A header ``<BB`` (number of update factors, whether accumulated sums follow), then 48 bytes for each
sum, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from precscope.facts import RetentionSums
from precscope.recording import values
from precscope.recording.values import SqlValue

MAX_FACTORS: Final = 64

_SUMS: Final = struct.Struct("<ddddqq")


def sums_to_blob(single: Sequence[RetentionSums], accumulated: RetentionSums | None) -> bytes:
    """The sums of every update factor, then those of the accumulated update, if there is one."""
    entries = [*single] if accumulated is None else [*single, accumulated]
    header = struct.pack("<BB", len(single), accumulated is not None)
    return header + b"".join(_sums_to_bytes(entry) for entry in entries)


def _sums_to_bytes(sums: RetentionSums) -> bytes:
    return _SUMS.pack(
        sums.update_factor,
        sums.dot,
        sums.update_squares,
        sums.noise_squares,
        int(sums.lost),
        int(sums.nonzero),
    )


def sums_from_blob(blob: SqlValue) -> tuple[tuple[RetentionSums, ...], RetentionSums | None]:
    """The inverse of ``sums_to_blob``.

    Raises:
        ValueError: anything else than it writes, or sums that cannot be.
    """
    if type(blob) is not bytes or len(blob) < 2:
        raise ValueError("expected retention sums")
    singles, accumulated = blob[0], blob[1]
    entries = singles + accumulated
    if singles > MAX_FACTORS or accumulated > 1 or len(blob) != 2 + entries * _SUMS.size:
        raise ValueError("retention sums have the wrong length")
    sums = tuple(_sums(*fields) for fields in _SUMS.iter_unpack(blob[2:]))
    return (sums[:-1], sums[-1]) if accumulated else (sums, None)


def _sums(
    factor: float, dot: float, squares: float, noise: float, lost: int, nonzero: int
) -> RetentionSums:
    values.finite(factor)
    values.integer(lost, 0, values.integer(nonzero))
    return RetentionSums(factor, dot, squares, noise, lost, nonzero)
