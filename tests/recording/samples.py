"""Facts to record, deterministic and random, for the tests of this room."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from precscope.facts import SITE_KINDS, RetentionSums, Site, StepRecord, UpdateWindow, Window
from precscope.histogram import BINS, ExponentHistogram, no_counts

STEPS = st.integers(0, 2**53)
COUNTS = st.integers(0, 2**53)
FLOATS = st.floats()
FINITE = st.floats(allow_nan=False, allow_infinity=False)
REALS = FLOATS.map(lambda value: value + 0.0)
"""What a column of SQLite keeps: of a zero not its sign."""
MAGNITUDES = st.floats(min_value=0.0, allow_nan=False, allow_infinity=False)
SUMS = st.floats(min_value=0.0, allow_nan=False)
NAMES = st.text(max_size=30)


def site(name: str = "layer", order: int = 0, autocast_dtype: str | None = None) -> Site:
    return Site(name, "activation", (2, 3), "float32", autocast_dtype, "Linear", order)


def histogram(seed: int = 0) -> ExponentHistogram:
    """Whole numbers throughout, so that sums add up exactly in any order."""
    draw = np.random.default_rng(seed)
    counts, powers = no_counts(), no_counts()
    counts[100:140] = draw.integers(0, 1 << 20, 40)
    powers[100:140] = counts[100:140] // 3
    apart = [int(n) for n in draw.integers(0, 100, 6)]
    zeros, infinities, nans, amax, sum_abs, sum_squares = apart
    return ExponentHistogram(
        counts, powers, zeros, infinities, nans, float(amax), float(sum_abs), float(sum_squares)
    )


def window(step: int, seed: int = 0, steps: int = 1) -> Window:
    return Window(step, step + steps - 1, steps, histogram(seed))


def step(index: int, gradient_amax: float = 1.0, loss: float | None = 0.5) -> StepRecord:
    return StepRecord(index, loss, gradient_amax, None, 0.0)


def sums(factor: float, size: int = 1) -> RetentionSums:
    return RetentionSums(factor, 2.0 * size, 4.0 * size, 1.0 * size, 3 * size, 7 * size)


def update(first_step: int, parameter: str = "layer.weight", size: int = 1) -> UpdateWindow:
    return UpdateWindow(
        parameter, first_step, first_step, size, 64, 1e-3, 5 * size, 6 * size,
        (sums(1.0, size), sums(0.1, size)), sums(1.0, size),
    )  # fmt: skip


@st.composite
def histograms(draw: st.DrawFn) -> ExponentHistogram:
    low = draw(st.integers(0, BINS))
    size = draw(st.integers(0, BINS - low))
    peak = draw(st.sampled_from([1, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 2**32, 2**46]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts, powers = no_counts(), no_counts()
    counts[low : low + size] = rng.integers(0, peak, size, endpoint=True)
    powers[low : low + size] = rng.integers(0, counts[low : low + size], endpoint=True)
    apart = draw(st.tuples(COUNTS, COUNTS, COUNTS))
    return ExponentHistogram(counts, powers, *apart, draw(MAGNITUDES), draw(SUMS), draw(SUMS))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    first, last = sorted(draw(st.tuples(STEPS, STEPS)))
    return Window(first, last, draw(COUNTS), draw(histograms()))


@st.composite
def retention_sums(draw: st.DrawFn) -> RetentionSums:
    lost, nonzero = sorted(draw(st.tuples(COUNTS, COUNTS)))
    noise = draw(FLOATS)
    return RetentionSums(draw(FINITE), draw(FLOATS), draw(FLOATS), noise, lost, nonzero)


@st.composite
def updates(draw: st.DrawFn) -> UpdateWindow:
    first, last = sorted(draw(st.tuples(STEPS, STEPS)))
    four = draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS))
    single = tuple(draw(st.lists(retention_sums(), max_size=4)))
    return UpdateWindow(
        draw(NAMES), first, last, four[0], four[1], draw(st.none() | REALS), four[2], four[3],
        single, draw(st.none() | retention_sums()),
    )  # fmt: skip


SITES = st.builds(
    Site,
    name=NAMES,
    kind=st.sampled_from(SITE_KINDS),
    shape=st.lists(st.integers(0, 2**53), max_size=6).map(tuple),
    dtype=NAMES,
    autocast_dtype=st.none() | NAMES,
    module_type=NAMES,
    order=COUNTS,
)
STEP_RECORDS = st.builds(
    StepRecord,
    step=STEPS,
    loss=st.none() | REALS,
    gradient_amax=MAGNITUDES,
    gradient_amax_site=st.none() | COUNTS,
    log2_scale=FINITE.map(lambda value: value + 0.0),
)
