"""The ``sites`` of a result: every place with its histogram and its shares in FP16."""

from __future__ import annotations

from typing import Any

import numpy as np

from precscope.advice.risk import at_risk
from precscope.facts import Site, Window
from precscope.formats import FP16
from precscope.histogram import MIN_EXPONENT, ExponentHistogram
from precscope.recording import Recording


def site_entries(recording: Recording) -> list[dict[str, Any]]:
    """All sites in the order in which they were first seen."""
    return [
        _entry(site, recording.histogram(i), recording.windows(i))
        for i, site in enumerate(recording.sites)
    ]


def _entry(site: Site, histogram: ExponentHistogram, windows: list[Window]) -> dict[str, Any]:
    total = histogram.total
    return {
        "name": site.name,
        "kind": site.kind,
        "module_type": site.module_type,
        "shape": list(site.shape),
        "dtype": site.dtype,
        "autocast_dtype": site.autocast_dtype,
        "at_risk": at_risk(site),
        "observations": sum(w.observations for w in windows),
        "histogram": _histogram(histogram),
        "amax": histogram.amax,
        "rms": histogram.rms,
        "sum_abs": histogram.sum_abs,
        "zero_fraction": histogram.zeros / total if total else 0.0,
        "flushed_fp16": histogram.flushed_fraction(FP16),
        "subnormal_fp16": histogram.subnormal_fraction(FP16),
        "overflow_fp16": histogram.overflow_fraction(FP16),
        "l1_flushed_fp16": histogram.l1_flushed_fraction(FP16),
        "windows": [_window(w) for w in windows],
    }


def _histogram(histogram: ExponentHistogram) -> dict[str, Any]:
    occupied = histogram.exponent_range or (0, -1)
    inside = slice(occupied[0] - MIN_EXPONENT, occupied[1] - MIN_EXPONENT + 1)
    return {
        "first_exponent": occupied[0],
        "counts": _integers(histogram.counts[inside]),
        "powers": _integers(histogram.powers[inside]),
        "zeros": histogram.zeros,
        "infinities": histogram.infinities,
        "nans": histogram.nans,
    }


def _integers(counts: np.ndarray[Any, Any]) -> list[int]:
    return [int(c) for c in counts]


def _window(window: Window) -> dict[str, Any]:
    return {
        "first_step": window.first_step,
        "last_step": window.last_step,
        "amax": window.histogram.amax,
        "flushed_fp16": window.histogram.flushed_fraction(FP16),
        "l1_flushed_fp16": window.histogram.l1_flushed_fraction(FP16),
    }
