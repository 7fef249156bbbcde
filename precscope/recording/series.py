"""The two tables that hold a bounded series of windows per key, told apart by data alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Generic, TypeVar

from precscope.facts import UpdateWindow, Window
from precscope.recording import codec, thinning, values
from precscope.recording.schema import MAX_WINDOWS
from precscope.recording.seal import Seal
from precscope.recording.values import Row, SqlValue

_Fact = TypeVar("_Fact", Window, UpdateWindow)


@dataclass(frozen=True, slots=True)
class Series(Generic[_Fact]):
    """A table of windows with at most 128 of them per key.

    Attributes:
        table: its name.
        columns: its columns without the id; the key is the first of them.
        to_row: a key and a fact to a row.
        from_row: a row to a fact; checks everything.
        merge: two neighbours in time to one.
    """

    table: str
    columns: tuple[str, ...]
    to_row: Callable[[SqlValue, _Fact], Row]
    from_row: Callable[[Row], _Fact]
    merge: Callable[[_Fact, _Fact], _Fact]

    @property
    def select(self) -> str:
        """Reads every column but the id, without a condition or an order."""
        return f"SELECT {', '.join(self.columns)} FROM {self.table}"

    @property
    def insert(self) -> str:
        """Writes one row; the id follows from the order of writing."""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({marks})"

    def checked_row(self, key: SqlValue, fact: _Fact) -> Row:
        """The row of a fact, known to be readable again.

        Raises:
            ValueError: a value is out of bounds; written, it would spoil the whole file.
        """
        row = self.to_row(key, fact)
        self.from_row(row)
        return row

    def thin_rows(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of one key, at most 128 of them, with the same content."""
        facts = [self.from_row(row) for row in rows]
        return [
            self.to_row(rows[0][0], fact)
            for fact in thinning.thin_windows(facts, MAX_WINDOWS, self.merge)
        ]

    def thin_table(self, connection: sqlite3.Connection, key: SqlValue, seal: Seal) -> None:
        """Merge the tightest neighbours of one key in the file until 128 windows are left."""
        found = connection.execute(
            f"SELECT id, first_step, last_step FROM {self.table} WHERE {self.columns[0]} = ?"
            " ORDER BY first_step, id",
            (key,),
        ).fetchall()
        spans = [(first, last) for _, first, last in found]
        for group in thinning.tightest_groups(spans, MAX_WINDOWS):
            if len(group) > 1:
                self._join(connection, key, [found[index][0] for index in group], seal)

    def _join(
        self, connection: sqlite3.Connection, key: SqlValue, ids: Sequence[int], seal: Seal
    ) -> None:
        rows = [connection.execute(f"{self.select} WHERE id = ?", (i,)).fetchone() for i in ids]
        merged = self.to_row(key, reduce(self.merge, (self.from_row(row) for row in rows)))
        connection.executemany(f"DELETE FROM {self.table} WHERE id = ?", [(i,) for i in ids])
        connection.execute(self.insert, merged)
        seal.remove(self.table, rows)
        seal.add(self.table, [merged])


def _window_to_row(key: SqlValue, window: Window) -> Row:
    return codec.window_to_row(values.integer(key), window)


def _update_to_row(_: SqlValue, update: UpdateWindow) -> Row:
    return codec.update_to_row(update)


WINDOWS: Final = Series(
    table="site_window",
    columns=(
        "site",
        "first_step",
        "last_step",
        "observations",
        "zeros",
        "infinities",
        "nans",
        "amax",
        "sum_abs",
        "sum_squares",
        "octaves",
    ),
    to_row=_window_to_row,
    from_row=codec.window_from_row,
    merge=thinning.merge_windows,
)

UPDATES: Final = Series(
    table="update_window",
    columns=(
        "parameter",
        "first_step",
        "last_step",
        "steps",
        "sampled",
        "learning_rate",
        "below_2_24",
        "ratio_above_2048",
        "sums",
    ),
    to_row=_update_to_row,
    from_row=codec.update_from_row,
    merge=thinning.merge_updates,
)
