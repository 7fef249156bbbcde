"""The seal: a checksum over everything in a Recording, so that damage is told and never shown.

SQLite finds damage to the structure of its pages, none to the values in them: a bit that flips on
a disk would be a wrong number in a report. The seal is the sum, modulo 2^64, of a hash of every
row. A sum has no order, and rows are added, replaced and removed one by one, so it is written in
the same transaction as the rows and nothing is read back for it. Anybody can compute it: it tells
accidents, not forgery.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from precscope.recording.values import Row, SqlValue

SEAL_NAME: Final = "precscope:seal"
"""A row of ``meta`` that holds the seal of all other rows."""

_MASK: Final = (1 << 64) - 1


def row_hash(table: str, row: Row) -> int:
    """A hash of 64 bits of a table's name and the values of a row."""
    told = blake2b(table.encode(), digest_size=8)
    for value in row:
        content = _content(value)
        told.update(b"%s%d:" % (type(value).__name__[:1].encode(), len(content)))
        told.update(content)
    return int.from_bytes(told.digest(), "big")


def _content(value: SqlValue) -> bytes:
    if isinstance(value, bytes):
        return value
    # SQLite stores a real without a fraction as an integer, which has no negative zero.
    return str(value + 0.0 if isinstance(value, float) else value).encode("utf-8", "replace")


def seal_of(tables: Iterable[tuple[str, Iterable[Row]]]) -> int:
    """The seal of the rows of these tables."""
    return sum(row_hash(table, row) for table, rows in tables for row in rows) & _MASK


@dataclass(slots=True)
class Seal:
    """The seal of a file that is being written.

    Attributes:
        total: the sum so far.
        replaceable: hashes of rows of the tables whose rows are replaced by their first column.
    """

    total: int = 0
    replaceable: dict[tuple[str, SqlValue], int] = field(default_factory=dict)

    def copy(self) -> Seal:
        """A seal to go on with in a transaction that may fail."""
        return Seal(self.total, dict(self.replaceable))

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Rows that are new."""
        self.total += seal_of([(table, rows)])

    def remove(self, table: str, rows: Iterable[Row]) -> None:
        """Rows that are gone."""
        self.total -= seal_of([(table, rows)])

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Rows that are new or take the place of the one with the same first column."""
        for row in rows:
            self.drop(table, row[0])
            self.replaceable[table, row[0]] = row_hash(table, row)
            self.total += self.replaceable[table, row[0]]

    def drop(self, table: str, key: SqlValue) -> None:
        """The row with this first column is gone, if there was one."""
        self.total -= self.replaceable.pop((table, key), 0)

    def write(self, connection: sqlite3.Connection) -> None:
        """Put the seal into the transaction of ``connection``."""
        connection.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (SEAL_NAME, encoded(self.total))
        )


def encoded(total: int) -> str:
    """A seal as the JSON text in which it is stored."""
    return f'"{total & _MASK:016x}"'
