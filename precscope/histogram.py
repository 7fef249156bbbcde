"""ExponentHistogram: how many values of a tensor lie in each binary octave.

Bin ``e`` counts the finite non-zero values with ``floor(log2 |x|) = e``, that is
``2^e <= |x| < 2^(e+1)``, for every exponent that float32 can hold: -149 to 127. Zeros,
infinities and NaNs are counted apart. All counts are integers, so merging over steps,
micro-batches and ranks is exact addition, and multiplying the tensor by ``2^k`` is a shift
by ``k`` bins: nothing has to be measured again to know what a loss scale would do.

A value of exactly half the smallest subnormal is flushed by round-to-nearest-even although the
rest of its octave survives, and such values are common (``1 / 2^k`` from a mean). The exact
powers of two are therefore counted apart as well, which makes every flushed count exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from precscope.formats import NumberFormat

MIN_EXPONENT = -149
MAX_EXPONENT = 127
BINS = MAX_EXPONENT - MIN_EXPONENT + 1

MEAN_SIGNIFICAND = 1.5
"""Mean of ``|x| / 2^e`` inside an octave, for a density that is flat there.

Far below the bulk of a distribution any smooth density is flat over an octave, which is where
the flush threshold lies. Bounds for an arbitrary one: 1 to 2, so a mass is within a third.
"""

OCTAVES = np.exp2(np.arange(MIN_EXPONENT, MAX_EXPONENT + 1, dtype=np.float64))
"""Lower end of each octave."""

Counts = npt.NDArray[np.int64]


def no_counts() -> Counts:
    """An all-zero array of one count per exponent."""
    return np.zeros(BINS, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ExponentHistogram:
    """Counts per binary octave of a set of values.

    Attributes:
        counts: ``(277,)`` int64, values per exponent from -149 to 127.
        powers: ``(277,)`` int64, those of ``counts`` that are exact powers of two.
        zeros: exact zeros, of either sign. Never counted as underflow.
        infinities: infinities, of either sign.
        nans: NaNs.
        amax: largest finite magnitude, 0.0 if there is none.
        sum_abs: sum of finite magnitudes, 0.0 if there are none.
        sum_squares: sum of squares of finite values, 0.0 if there are none.
    """

    counts: Counts = field(default_factory=no_counts)
    powers: Counts = field(default_factory=no_counts)
    zeros: int = 0
    infinities: int = 0
    nans: int = 0
    amax: float = 0.0
    sum_abs: float = 0.0
    sum_squares: float = 0.0
    _below: _SumsBelow | None = field(default=None, init=False, repr=False)
    """Made at the first question: a curve asks hundreds."""

    @property
    def nonzero(self) -> int:
        """Number of finite non-zero values."""
        return self._sums_below().values[-1]

    @property
    def total(self) -> int:
        """Number of values of every sort."""
        return self.nonzero + self.zeros + self.infinities + self.nans

    @property
    def rms(self) -> float:
        """Root mean square of the finite values, zeros included, 0.0 if there are none."""
        finite = self.nonzero + self.zeros
        return float(np.sqrt(self.sum_squares / finite)) if finite else 0.0

    @property
    def exponent_range(self) -> tuple[int, int] | None:
        """Lowest and highest occupied exponent, None if every value is zero or not finite."""
        occupied = np.flatnonzero(self.counts)
        if not occupied.size:
            return None
        return int(occupied[0]) + MIN_EXPONENT, int(occupied[-1]) + MIN_EXPONENT

    def merged(self, other: ExponentHistogram) -> ExponentHistogram:
        """The histogram of both sets of values together.

        Exact in every count and in ``amax``; the two sums are float64 sums.
        """
        return ExponentHistogram(
            counts=self.counts + other.counts,
            powers=self.powers + other.powers,
            zeros=self.zeros + other.zeros,
            infinities=self.infinities + other.infinities,
            nans=self.nans + other.nans,
            amax=max(self.amax, other.amax),
            sum_abs=self.sum_abs + other.sum_abs,
            sum_squares=self.sum_squares + other.sum_squares,
        )

    def shifted(self, log2_scale: int) -> ExponentHistogram:
        """The histogram of the values times ``2^log2_scale``, in exact arithmetic.

        What leaves the exponents of float32 gathers in the outermost bins, so that no count is
        lost. Both lie far outside FP16 and FP8. BF16 has the exponents of float32: ask for its
        overflow with ``overflow_count(BF16, log2_scale)``, which shifts nothing.
        """
        factor = 2.0**log2_scale
        return replace(
            self,
            counts=_shift(self.counts, log2_scale),
            powers=_shift(self.powers, log2_scale),
            amax=self.amax * factor,
            sum_abs=self.sum_abs * factor,
            sum_squares=self.sum_squares * factor * factor,
        )

    def flushed_count(self, fmt: NumberFormat, log2_scale: int = 0) -> int:
        """Non-zero values that become zero in ``fmt`` after a scale by ``2^log2_scale``. Exact."""
        edge = fmt.log2_flush_threshold - log2_scale
        return self._sums_below().values_at(edge) + _at(self.powers, edge)

    def subnormal_count(self, fmt: NumberFormat, log2_scale: int = 0) -> int:
        """Values that survive in ``fmt`` below its smallest normal number, at reduced precision."""
        below_normal = self._sums_below().values_at(fmt.log2_smallest_normal - log2_scale)
        return below_normal - self.flushed_count(fmt, log2_scale)

    def overflow_count(self, fmt: NumberFormat, log2_scale: int = 0) -> int:
        """Finite values that overflow ``fmt`` after the scale.

        Exact for whole octaves. The threshold lies inside the topmost octave of the format (FP16:
        65520 in [2^15, 2^16)); of that octave only the largest value is known, so this is a lower
        bound there, and it is zero exactly when nothing overflows.
        """
        whole = self.nonzero - self._sums_below().values_at(fmt.max_exponent + 1 - log2_scale)
        return max(whole, int(fmt.overflows(self.amax * 2.0**log2_scale)))

    def flushed_fraction(self, fmt: NumberFormat, log2_scale: int = 0) -> float:
        """Flushed values as a share of the finite non-zero ones; 0.0 if there are none."""
        return self.flushed_count(fmt, log2_scale) / self.nonzero if self.nonzero else 0.0

    def subnormal_fraction(self, fmt: NumberFormat, log2_scale: int = 0) -> float:
        """Subnormal values as a share of the finite non-zero ones; 0.0 if there are none."""
        return self.subnormal_count(fmt, log2_scale) / self.nonzero if self.nonzero else 0.0

    def overflow_fraction(self, fmt: NumberFormat, log2_scale: int = 0) -> float:
        """Overflowing values as a share of the finite non-zero ones; 0.0 if there are none."""
        return self.overflow_count(fmt, log2_scale) / self.nonzero if self.nonzero else 0.0

    def l1_below(self, exponent: int) -> float:
        """Sum of |x| over the octaves below ``exponent``, each at its mean significand of 1.5."""
        return self._sums_below().mass_at(exponent)

    def _sums_below(self) -> _SumsBelow:
        if self._below is None:
            object.__setattr__(self, "_below", _sums_below(self.counts, self.powers))
        return cast("_SumsBelow", self._below)

    def l1_flushed_fraction(self, fmt: NumberFormat, log2_scale: int = 0) -> float:
        """Share of sum |x| that ``fmt`` flushes after the scale, 0.0 for an all-zero tensor.

        Counts are exact, the mass of an octave is its count times 1.5 octaves (see
        ``MEAN_SIGNIFICAND``); capped at 1.
        """
        if self.sum_abs <= 0.0:
            return 0.0
        if self.flushed_count(fmt, log2_scale) == self.nonzero:
            return 1.0
        edge = fmt.log2_flush_threshold - log2_scale
        lost = self.l1_below(edge) + _at(self.powers, edge) * 2.0**edge
        return min(1.0, lost / self.sum_abs)

    def log2_scale_that_keeps(
        self, fmt: NumberFormat, l1_limit: float, count_limit: float = 1.0
    ) -> int:
        """Smallest ``k`` so that after a scale by ``2^k`` no more than these shares are flushed.

        Exact to the bit: both shares fall as k rises. The smallest k told is that which puts the
        flush threshold at the topmost octave, also where there is nothing to lose.

        Args:
            fmt: the format.
            l1_limit: of sum |x|, less than 1; see ``l1_flushed_fraction``.
            count_limit: of the finite non-zero values, see ``flushed_fraction``.
        """
        if self.sum_abs <= 0.0:
            return fmt.log2_flush_threshold - MAX_EXPONENT
        sums = self._sums_below()
        # Flushing what lies below the lowest octave is nothing, above the highest it is all.
        low, high = sums.lowest - 1, sums.lowest + len(sums.values) - 1
        while high - low > 1:
            edge = (low + high) // 2
            if self._is_kept(edge, l1_limit, count_limit):
                low = edge
            else:
                high = edge
        return fmt.log2_flush_threshold - low

    def _is_kept(self, edge: int, l1_limit: float, count_limit: float) -> bool:
        """Whether flushing what is at most ``2^edge``, in an occupied octave, keeps enough."""
        sums, powers = self._sums_below(), int(self.powers[edge - MIN_EXPONENT])
        flushed, nonzero = sums.values_at(edge) + powers, sums.values[-1]
        if flushed / nonzero > count_limit:
            return False
        lost = sums.mass_at(edge) + powers * 2.0**edge
        return (1.0 if flushed == nonzero else lost / self.sum_abs) <= l1_limit

    def log2_scale_before_overflow(self, fmt: NumberFormat) -> int | None:
        """Largest ``k`` for which no value times ``2^k`` overflows ``fmt``; None if all are zero."""
        if self.amax <= 0.0:
            return None
        # frexp and ldexp are exact, also where 2^scale itself would leave float64.
        scale = fmt.max_exponent - math.frexp(self.amax)[1] + 2
        while fmt.overflows(math.ldexp(self.amax, scale)):
            scale -= 1
        return scale


@dataclass(frozen=True, slots=True)
class _SumsBelow:
    """Values, and sum of |x|, below each exponent from the lowest occupied one to past the highest.

    Attributes:
        lowest: the lowest occupied exponent.
        values: values below ``lowest``, which are none, below ``lowest + 1``, and so on.
        mass: sum of |x| below the same.
    """

    lowest: int
    values: list[int]
    mass: list[float]

    def values_at(self, exponent: int) -> int:
        return self.values[min(max(exponent - self.lowest, 0), len(self.values) - 1)]

    def mass_at(self, exponent: int) -> float:
        return self.mass[min(max(exponent - self.lowest, 0), len(self.mass) - 1)]


def _sums_below(counts: Counts, powers: Counts) -> _SumsBelow:
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return _SumsBelow(MIN_EXPONENT, [0], [0.0])
    low, high = int(occupied[0]), int(occupied[-1]) + 1
    values, exact = counts[low:high], powers[low:high]
    mass = OCTAVES[low:high] * (exact + MEAN_SIGNIFICAND * (values - exact))
    return _SumsBelow(
        low + MIN_EXPONENT, [0, *values.cumsum().tolist()], [0.0, *mass.cumsum().tolist()]
    )


def _at(counts: Counts, exponent: int) -> int:
    inside = MIN_EXPONENT <= exponent <= MAX_EXPONENT
    return int(counts[exponent - MIN_EXPONENT]) if inside else 0


def _shift(counts: Counts, by: int) -> Counts:
    out = no_counts()
    where = np.clip(np.arange(BINS) + by, 0, BINS - 1)
    np.add.at(out, where, counts)
    return out
