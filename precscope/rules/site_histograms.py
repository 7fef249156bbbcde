"""The histogram of a site, back from its JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from precscope.histogram import BINS, MIN_EXPONENT, Counts, ExponentHistogram


def histogram_of(site: dict[str, Any]) -> ExponentHistogram:
    """The histogram of an entry of ``sites``; every share that it gives is the recorded one.

    The sum of squares is not needed and stays 0; an ``amax`` or ``sum_abs`` of null is 0.

    Raises:
        ValueError: counts that are negative, or beyond the exponents of float32.
        KeyError: an entry without its counts.
        TypeError: something else where a number is expected.
    """
    told = site["histogram"]
    first = int(told["first_exponent"])
    return ExponentHistogram(
        counts=_counts(told["counts"], first),
        powers=_counts(told["powers"], first),
        zeros=int(told["zeros"]),
        infinities=int(told["infinities"]),
        nans=int(told["nans"]),
        amax=float(site["amax"] or 0.0),
        sum_abs=float(site["sum_abs"] or 0.0),
    )


def _counts(listed: list[int], first_exponent: int) -> Counts:
    all_counts = np.zeros(BINS, dtype=np.int64)
    start = first_exponent - MIN_EXPONENT
    if start < 0 or start + len(listed) > BINS:
        raise ValueError(f"exponents from {first_exponent} on leave float32")
    counts = np.array(listed, dtype=np.int64)
    if counts.size and counts.min() < 0:
        raise ValueError("a negative count")
    all_counts[start : start + len(listed)] = counts
    return all_counts
