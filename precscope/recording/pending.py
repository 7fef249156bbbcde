"""What a writer holds until the next flush: encoded, checked and bounded rows."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from precscope.facts import StepRecord, UpdateWindow, Window
from precscope.recording import codec, thinning
from precscope.recording.schema import MAX_STEPS, MAX_WINDOWS
from precscope.recording.seal import Seal
from precscope.recording.series import UPDATES, WINDOWS, Series
from precscope.recording.values import Row, SqlValue

_Fact = TypeVar("_Fact", Window, UpdateWindow)


@dataclass(slots=True)
class PendingSeries(Generic[_Fact]):
    """Rows of one table that are not in the file yet, and how many of each key already are."""

    series: Series[_Fact]
    rows: defaultdict[SqlValue, list[Row]] = field(default_factory=lambda: defaultdict(list))
    written: Counter[SqlValue] = field(default_factory=Counter)

    def add(self, key: SqlValue, fact: _Fact) -> None:
        """Encode and keep; merges neighbours when a locked file has kept too many waiting."""
        row = self.series.checked_row(key, fact)
        waiting = self.rows[row[0]]
        waiting.append(row)
        if len(waiting) > MAX_WINDOWS:
            waiting[:] = self.series.thin_rows(waiting)

    def write(self, connection: sqlite3.Connection, seal: Seal) -> None:
        """Insert everything, then thin the keys that went over their bound."""
        new = [row for rows in self.rows.values() for row in rows]
        connection.executemany(self.series.insert, new)
        seal.add(self.series.table, new)
        for key, rows in self.rows.items():
            if self.written[key] + len(rows) > MAX_WINDOWS:
                self.series.thin_table(connection, key, seal)

    def forget(self) -> None:
        """Drop what is now safely in the file."""
        for key, rows in self.rows.items():
            self.written[key] = min(MAX_WINDOWS, self.written[key] + len(rows))
        self.rows.clear()


@dataclass(slots=True)
class Pending:
    """All rows that are not in the file yet."""

    sites: dict[int, Row] = field(default_factory=dict)
    windows: PendingSeries[Window] = field(default_factory=lambda: PendingSeries(WINDOWS))
    updates: PendingSeries[UpdateWindow] = field(default_factory=lambda: PendingSeries(UPDATES))
    steps: dict[int, StepRecord] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        series = (self.windows.rows, self.updates.rows)
        return any((self.sites, *series, self.steps, self.documents))

    def add_step(self, record: StepRecord) -> None:
        """Keep a step record, the last one if a step is told twice."""
        codec.step_from_row(codec.step_to_row(record))
        self.steps[record.step] = record
        if len(self.steps) > MAX_STEPS:
            kept = thinning.thin_steps(list(self.steps.values()), MAX_STEPS)
            self.steps = {step.step: step for step in kept}

    def write(self, connection: sqlite3.Connection, seal: Seal) -> None:
        """Put everything into the transaction of ``connection``, and into its seal."""
        connection.executemany(
            "INSERT OR REPLACE INTO site VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self.sites.values()
        )
        seal.put("site", self.sites.values())
        self.windows.write(connection, seal)
        self.updates.write(connection, seal)
        self._write_steps(connection, seal)
        connection.executemany(
            "INSERT OR REPLACE INTO document VALUES (?, ?)", self.documents.items()
        )
        seal.put("document", self.documents.items())

    def _write_steps(self, connection: sqlite3.Connection, seal: Seal) -> None:
        new = [codec.step_to_row(record) for record in self.steps.values()]
        connection.executemany("INSERT OR REPLACE INTO step VALUES (?, ?, ?, ?, ?)", new)
        seal.put("step", new)
        if connection.execute("SELECT count(*) FROM step").fetchone()[0] > MAX_STEPS:
            _thin_steps(connection, seal)

    def forget(self) -> None:
        """Drop what is now safely in the file."""
        self.windows.forget()
        self.updates.forget()
        for waiting in (self.sites, self.steps, self.documents):
            waiting.clear()


def _thin_steps(connection: sqlite3.Connection, seal: Seal) -> None:
    rows = connection.execute("SELECT * FROM step ORDER BY step").fetchall()
    steps = [codec.step_from_row(row) for row in rows]
    kept = {record.step for record in thinning.thin_steps(steps, MAX_STEPS)}
    dropped = [(record.step,) for record in steps if record.step not in kept]
    connection.executemany("DELETE FROM step WHERE step = ?", dropped)
    for (step,) in dropped:
        seal.drop("step", step)
