"""Facts to rows and back. Rows are compact; decoding checks every type and bound.

Decoders raise ValueError, never anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from precscope.facts import SITE_KINDS, Site, SiteKind, StepRecord, UpdateWindow, Window
from precscope.histogram import ExponentHistogram, no_counts
from precscope.recording import values
from precscope.recording.octaves import MAX_TOTAL, octaves_from_blob, octaves_to_blob
from precscope.recording.retention import sums_from_blob, sums_to_blob
from precscope.recording.values import Row, SqlValue

MAX_DIMENSIONS: Final = 64


def site_to_row(site_id: int, site: Site) -> Row:
    """Columns of ``site``."""
    name, module_type = values.text_to_sql(site.name), values.text_to_sql(site.module_type)
    shape = values.json_to_sql([int(size) for size in site.shape])
    return (
        site_id, name, site.kind, shape, site.dtype, site.autocast_dtype, module_type, site.order
    )  # fmt: skip


def site_from_row(row: Row) -> Site:
    """The inverse of ``site_to_row``, without the id."""
    _, name, kind, shape, dtype, autocast_dtype, module_type, order = row
    return Site(
        name=values.text(name),
        kind=_kind(kind),
        shape=_shape(shape),
        dtype=values.text(dtype),
        autocast_dtype=None if autocast_dtype is None else values.text(autocast_dtype),
        module_type=values.text(module_type),
        order=values.integer(order),
    )


def _kind(value: SqlValue) -> SiteKind:
    for kind in SITE_KINDS:
        if value == kind:
            return kind
    raise ValueError("unknown kind of site")


def _shape(value: SqlValue) -> tuple[int, ...]:
    sizes = values.json_value(value)
    if not isinstance(sizes, list) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError("expected a shape")
    return tuple(values.integer(size) for size in sizes)


def window_to_row(site_id: int, window: Window) -> Row:
    """Columns of ``site_window``, without the id."""
    h = window.histogram
    steps = (int(window.first_step), int(window.last_step), int(window.observations))
    apart = (int(h.zeros), int(h.infinities), int(h.nans))
    sums = (float(h.amax), float(h.sum_abs), float(h.sum_squares))
    return (site_id, *steps, *apart, *sums, octaves_to_blob(h.counts, h.powers))


def window_from_row(row: Row) -> Window:
    """The inverse of ``window_to_row``, without the site."""
    first, last, observations = check_window_row(row)
    return Window(first, last, observations, histogram_from_rows([row]))


def check_window_row(row: Row) -> tuple[int, int, int]:
    """First step, last step and observations of a row in which every value is as it must be."""
    _, first, last, observations, zeros, infinities, nans, amax, sum_abs, sum_squares, blob = row
    for apart in (zeros, infinities, nans):
        values.integer(apart, 0, MAX_TOTAL)
    values.magnitude(amax)
    values.non_negative(sum_abs)
    values.non_negative(sum_squares)
    octaves_from_blob(blob)
    return (*_steps(first, last), values.integer(observations))


def histogram_from_rows(rows: Sequence[Row]) -> ExponentHistogram:
    """The values of all windows together. The rows were checked."""
    counts, powers = no_counts(), no_counts()
    for row in rows:
        low, some, exact = octaves_from_blob(row[-1])
        counts[low : low + len(some)] += some.astype(np.int64)
        powers[low : low + len(exact)] += exact.astype(np.int64)
    zeros, infinities, nans, amaxes, sums, squares = (
        [row[place] for row in rows] for place in range(4, 10)
    )
    return ExponentHistogram(
        counts=counts,
        powers=powers,
        zeros=_total(zeros),
        infinities=_total(infinities),
        nans=_total(nans),
        amax=max((values.magnitude(amax) for amax in amaxes), default=0.0),
        sum_abs=sum((values.non_negative(part) for part in sums), 0.0),
        sum_squares=sum((values.non_negative(part) for part in squares), 0.0),
    )


def _total(parts: Sequence[SqlValue]) -> int:
    return sum(values.integer(part) for part in parts)


def _steps(first: SqlValue, last: SqlValue) -> tuple[int, int]:
    first_step = values.integer(first)
    return first_step, values.integer(last, first_step)


def step_to_row(record: StepRecord) -> Row:
    """Columns of ``step``."""
    site = record.gradient_amax_site
    return (
        int(record.step),
        values.real_to_sql(record.loss),
        values.real_to_sql(record.gradient_amax),
        None if site is None else int(site),
        values.real_to_sql(record.log2_scale),
    )


def step_from_row(row: Row) -> StepRecord:
    """The inverse of ``step_to_row``."""
    step, loss, gradient_amax, site, log2_scale = row
    return StepRecord(
        step=values.integer(step),
        loss=values.optional_real(loss),
        gradient_amax=values.magnitude(gradient_amax),
        gradient_amax_site=values.optional_integer(site),
        log2_scale=values.finite(log2_scale),
    )


def update_to_row(update: UpdateWindow) -> Row:
    """Columns of ``update_window``, without the id."""
    return (
        values.text_to_sql(update.parameter),
        *(int(update.first_step), int(update.last_step), int(update.steps), int(update.sampled)),
        values.real_to_sql(update.learning_rate),
        *(int(update.below_2_24), int(update.ratio_above_2048)),
        sums_to_blob(update.single, update.accumulated),
    )


def update_from_row(row: Row) -> UpdateWindow:
    """The inverse of ``update_to_row``."""
    parameter, first, last, steps, sampled, learning_rate, below, above, blob = row
    single, accumulated = sums_from_blob(blob)
    first_step, last_step = _steps(first, last)
    return UpdateWindow(
        parameter=values.text(parameter),
        first_step=first_step,
        last_step=last_step,
        steps=values.integer(steps),
        sampled=values.integer(sampled),
        learning_rate=values.optional_real(learning_rate),
        below_2_24=values.integer(below),
        ratio_above_2048=values.integer(above),
        single=single,
        accumulated=accumulated,
    )
