from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.recording import codec, values
from precscope.recording.octaves import HEADER
from precscope.recording.values import Row, SqlValue
from tests.recording import samples

SQL_VALUES = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=9), st.binary()
)


def through_sqlite(row: Row, types: str) -> Row:
    """What SQLite gives back from columns of these types: it converts on its own."""
    names = [f"c{index}" for index in range(len(row))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types.split(), strict=True))
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t ({columns})")
    connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(row))})", row)
    stored: Row = connection.execute("SELECT * FROM t").fetchone()
    connection.close()
    return stored


def same(a: Any, b: Any) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(asdict(a)) == repr(asdict(b))


def assert_same_window(a: Window, b: Window) -> None:
    for name in ("counts", "powers"):
        left, right = getattr(a.histogram, name), getattr(b.histogram, name)
        assert left.dtype == right.dtype == np.int64
        assert np.array_equal(left, right)
    scalars = ("zeros", "infinities", "nans", "amax", "sum_abs", "sum_squares")
    assert [getattr(a.histogram, n) for n in scalars] == [getattr(b.histogram, n) for n in scalars]
    assert (a.first_step, a.last_step, a.observations) == (
        b.first_step,
        b.last_step,
        b.observations,
    )


@given(samples.windows())
def test_a_window_comes_back_exactly(window: Window) -> None:
    row = through_sqlite(codec.window_to_row(3, window), "INTEGER " * 7 + "REAL REAL REAL BLOB")
    assert row[0] == 3
    assert_same_window(codec.window_from_row(row), window)


@given(samples.updates())
def test_an_update_window_comes_back_exactly(update: UpdateWindow) -> None:
    row = through_sqlite(
        codec.update_to_row(update),
        "TEXT INTEGER INTEGER INTEGER INTEGER REAL INTEGER INTEGER BLOB",
    )
    assert same(codec.update_from_row(row), update)


@given(samples.STEP_RECORDS)
def test_a_step_comes_back_exactly_with_nan_and_infinite_losses(record: StepRecord) -> None:
    row = through_sqlite(codec.step_to_row(record), "INTEGER REAL REAL INTEGER REAL")
    back = codec.step_from_row(row)
    # SQLite stores -0.0 as the integer 0.
    assert (back.loss, back.step) == (record.loss, record.step) or record.loss != record.loss
    assert back.gradient_amax == record.gradient_amax
    assert (back.loss is None) == (record.loss is None)
    assert (back.gradient_amax_site, back.log2_scale) == (
        record.gradient_amax_site,
        record.log2_scale,
    )


@given(samples.SITES)
def test_a_site_comes_back_exactly(site: Site) -> None:
    types = "INTEGER TEXT TEXT TEXT TEXT TEXT TEXT INTEGER"
    assert codec.site_from_row(through_sqlite(codec.site_to_row(0, site), types)) == site


def test_a_histogram_takes_little_room() -> None:
    row = codec.window_to_row(0, samples.window(0))
    blob = row[-1]
    assert isinstance(blob, bytes)
    assert len(blob) == 6 + 40 * 4 + 40 * 4


def test_lone_surrogates_and_endless_names_become_storable() -> None:
    row = codec.site_to_row(0, samples.site("a\ud800" + "b" * 100_000))
    name = codec.site_from_row(through_sqlite(row, "INTEGER TEXT TEXT TEXT TEXT TEXT TEXT INTEGER"))
    assert name.name[:3] == "a?b"
    assert len(name.name) == values.MAX_TEXT_LENGTH


@given(st.lists(SQL_VALUES, min_size=11, max_size=11), st.integers(0, 10))
def test_a_row_with_a_foreign_value_is_a_value_error_or_a_window(
    foreign: list[SqlValue], position: int
) -> None:
    row = list(codec.window_to_row(0, samples.window(5)))
    row[position] = foreign[position]
    try:
        window = codec.window_from_row(tuple(row))
    except ValueError:
        return
    assert window.histogram.total >= 0


@given(st.binary(max_size=60))
def test_a_foreign_blob_is_a_value_error_or_a_sound_histogram(blob: bytes) -> None:
    row = (*codec.window_to_row(0, samples.window(5))[:-1], blob)
    try:
        window = codec.window_from_row(row)
    except ValueError:
        return
    assert (window.histogram.powers <= window.histogram.counts).all()


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        HEADER.pack(0, 1, 3, 1) + b"\0" * 4,
        HEADER.pack(-150, 1, 1, 1) + b"\0\0",
        HEADER.pack(127, 2, 1, 1) + b"\0" * 4,
        HEADER.pack(0, 1, 1, 1) + b"\0",
        HEADER.pack(0, 1, 1, 1) + b"\1\2",
        HEADER.pack(0, 1, 8, 1) + b"\xff" * 8 + b"\0",
        "text",
    ],
)
def test_an_impossible_blob_is_refused(blob: SqlValue) -> None:
    with pytest.raises(ValueError, match="histogram"):
        codec.window_from_row((*codec.window_to_row(0, samples.window(5))[:-1], blob))


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '"\\ud800"', "1" * 5000, "nul", b"1", None])
def test_a_text_that_is_no_json_is_a_value_error(text: SqlValue) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.json_value(text)
