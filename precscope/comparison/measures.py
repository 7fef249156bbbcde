"""How far two distributions of binary exponents are apart, in bits (octaves, binades)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from precscope.histogram import MIN_EXPONENT, ExponentHistogram, no_counts

_Record = TypeVar("_Record")
_Key = TypeVar("_Key", bound=Hashable)


def histogram_of(site: Mapping[str, Any]) -> ExponentHistogram:
    """The histogram of a site of a result, see ``docs/json.md``.

    A sum that was not finite is null there and becomes infinite again.
    """
    found, counts, powers = site["histogram"], no_counts(), no_counts()
    low = found["first_exponent"] - MIN_EXPONENT
    high = low + len(found["counts"])
    counts[low:high], powers[low:high] = found["counts"], found["powers"]
    total_abs = site["sum_abs"]
    return ExponentHistogram(
        counts=counts,
        powers=powers,
        zeros=found["zeros"],
        infinities=found["infinities"],
        nans=found["nans"],
        amax=site["amax"] or 0.0,
        sum_abs=math.inf if total_abs is None else total_abs,
    )


def mean_log2(histogram: ExponentHistogram) -> float | None:
    """Mean of log2 |x| over the finite non-zero values; None if there are none.

    ``sum_e (c_e (e + 1/2) - p_e / 2) / sum_e c_e``: every value at the middle of its octave, exact
    powers of two at their exponent. Within half a bit of the truth, and the difference between
    a tensor and 2^k times the same tensor is exactly k.
    """
    n = histogram.nonzero
    if not n:
        return None
    exponents = np.arange(MIN_EXPONENT, MIN_EXPONENT + len(histogram.counts))
    middles = (histogram.counts * (exponents + 0.5)).sum() - histogram.powers.sum() / 2
    return float(middles / n)


def median_log2(histogram: ExponentHistogram) -> float | None:
    """Median of log2 |x| over the finite non-zero values; None if there are none.

    The octave e that holds the middle value, plus the share of its values below the middle one:
    log2 |x| is taken to be flat inside the octave. A factor of 2^k moves it by exactly k.
    """
    n = histogram.nonzero
    if not n:
        return None
    below = np.cumsum(histogram.counts)
    octave = int(np.searchsorted(below, n / 2))
    inside = int(histogram.counts[octave])
    return octave + MIN_EXPONENT + (n / 2 - float(below[octave] - inside)) / inside


def amax_log2(histogram: ExponentHistogram) -> float | None:
    """log2 of the largest finite magnitude; None if every value is zero or not finite."""
    return math.log2(histogram.amax) if histogram.amax > 0.0 else None


def distance_bits(a: ExponentHistogram, b: ExponentHistogram) -> float | None:
    """Wasserstein-1 distance of the two distributions of binary exponents, in bits.

    ``sum_e |F_a(e) - F_b(e)|`` with F the share of the finite non-zero values up to the exponent e:
    the number of octaves that a value has to move by, on average, to turn one distribution into
    the other. At least |mean shift| of the exponents, and more where the spread changed too.
    None if either has no finite non-zero value.
    """
    if not (a.nonzero and b.nonzero):
        return None
    shares = [np.cumsum(h.counts) / h.nonzero for h in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum())


def difference(a: float | None, b: float | None) -> float | None:
    """``b - a``; None where either is."""
    return None if a is None or b is None else b - a


def first_of_each(found: Iterable[_Record], key: Callable[[_Record], _Key]) -> dict[_Key, _Record]:
    """The records by their key, in order; of equal keys the first."""
    known: dict[_Key, _Record] = {}
    for record in found:
        known.setdefault(key(record), record)
    return known
