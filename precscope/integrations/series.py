"""A Recording as what dashboards draw: scalars per step, a histogram of exponents per window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, log2

import numpy as np

from precscope.histogram import MIN_EXPONENT, ExponentHistogram
from precscope.recording import Recording

PREFIX = "precscope"


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number at one step."""

    tag: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Exponents:
    """How many values of a site had which binary exponent, up to ``step``.

    Attributes:
        edges: n + 1 exponents that bound the n octaves, log2.
        counts: values per octave, n of them.
    """

    tag: str
    step: int
    edges: tuple[int, ...]
    counts: tuple[int, ...]


def scalars(recording: Recording) -> Iterator[Scalar]:
    """Loss, log2 of the largest gradient and log2 of the loss scale; what is missing is left out."""
    for record in recording.steps:
        if record.loss is not None and isfinite(record.loss):
            yield Scalar(f"{PREFIX}/loss", record.step, record.loss)
        if 0.0 < record.gradient_amax < float("inf"):
            name = f"{PREFIX}/log2_gradient_amax"
            yield Scalar(name, record.step, log2(record.gradient_amax))
        yield Scalar(f"{PREFIX}/log2_loss_scale", record.step, record.log2_scale)


def exponents(recording: Recording) -> Iterator[Exponents]:
    """The histogram of every window of every site that holds a finite non-zero value."""
    for index, site in enumerate(recording.sites):
        for window in recording.windows(index):
            found = _octaves(window.histogram)
            if found is not None:
                tag = f"{PREFIX}/{site.kind}/{site.name}"
                yield Exponents(tag, window.last_step, *found)


def _octaves(histogram: ExponentHistogram) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    occupied = np.flatnonzero(histogram.counts)
    if not occupied.size:
        return None
    low, high = int(occupied[0]), int(occupied[-1]) + 1
    edges = tuple(range(low + MIN_EXPONENT, high + MIN_EXPONENT + 1))
    return edges, tuple(int(count) for count in histogram.counts[low:high])
