"""The octaves of a histogram as one blob, and back.

A header ``<hHBB`` (lowest occupied exponent, number of bins, bytes per count, bytes per power),
then the counts, then the powers, little-endian in the narrowest unsigned width that holds them.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from precscope.histogram import BINS, MAX_EXPONENT, MIN_EXPONENT, Counts
from precscope.recording.values import SqlValue

MAX_TOTAL: Final = 1 << 55
"""Values in one window. 128 such windows still add up in 64 bits."""

Octaves = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger[Any]]]

HEADER: Final = struct.Struct("<hHBB")
_WIDTHS: Final = (1, 2, 4, 8)


def octaves_to_blob(counts: Counts, powers: Counts) -> bytes:
    """The occupied octaves of both arrays, int64 of ``BINS`` elements.

    Raises:
        ValueError: a count is negative.
    """
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return HEADER.pack(0, 0, 1, 1)
    low, high = int(occupied[0]), int(occupied[-1]) + 1
    packed = [_narrow(octaves[low:high]) for octaves in (counts, powers)]
    widths = [octaves.dtype.itemsize for octaves in packed]
    header = HEADER.pack(low + MIN_EXPONENT, high - low, *widths)
    return header + b"".join(octaves.tobytes() for octaves in packed)


def _narrow(octaves: Counts) -> Octaves:
    if int(octaves.min()) < 0:
        raise ValueError("a count is negative")
    peak = int(octaves.max())
    return octaves.astype(f"<u{next(width for width in _WIDTHS if peak < 1 << 8 * width)}")


def octaves_from_blob(blob: SqlValue) -> tuple[int, Octaves, Octaves]:
    """Place of the lowest octave, counts and powers from there on, in the width of the file.

    Raises:
        ValueError: anything else than ``octaves_to_blob`` writes, more than ``MAX_TOTAL`` values, or
            more exact powers of two in an octave than values.
    """
    if type(blob) is not bytes or len(blob) < HEADER.size:
        raise ValueError("expected a histogram")
    exponent, bins, *widths = HEADER.unpack_from(blob)
    low = exponent - MIN_EXPONENT
    if not 0 <= low <= low + bins <= BINS or not set(widths) <= set(_WIDTHS):
        raise ValueError(f"a histogram leaves the exponents {MIN_EXPONENT} to {MAX_EXPONENT}")
    if len(blob) != HEADER.size + bins * sum(widths):
        raise ValueError("a histogram has the wrong length")
    start = HEADER.size
    counts: Octaves = np.frombuffer(blob, f"<u{widths[0]}", bins, start)
    powers: Octaves = np.frombuffer(blob, f"<u{widths[1]}", bins, start + bins * widths[0])
    # In float64, where nothing wraps around: a count may have any 64 bits.
    if float(counts.sum(dtype=np.float64)) > MAX_TOTAL or bool((powers > counts).any()):
        raise ValueError("a histogram has impossible counts")
    return low, counts, powers
