"""The file: its identity, its tables, and the two ways in which it is opened.

A rollback journal and not WAL, because a Recording is *one file*: with WAL the newest data of
a killed run lies in a second file that a copy forgets, a read-only folder cannot be read (the
reader has to create shared memory beside the file), and network file systems, where clusters
keep their runs, are not supported. The price is that a reader blocks the writer while it
reads. Readers therefore copy the rows into memory and leave at once, and a writer that finds
the file locked keeps what it has until the next flush.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = int.from_bytes(b"prec", "big")
SCHEMA_VERSION: Final = 1

MAX_WINDOWS: Final = 128
"""Windows kept per site, and update windows per parameter."""
MAX_STEPS: Final = 4096
"""Step records kept per Recording."""

READ_TIMEOUT_SECONDS: Final = 10.0

_SCRIPT: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;

CREATE TABLE document (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;

CREATE TABLE site (
    id INTEGER PRIMARY KEY,
    name TEXT,
    kind TEXT,
    shape TEXT,
    dtype TEXT,
    autocast_dtype TEXT,
    module_type TEXT,
    site_order INTEGER
);

CREATE TABLE site_window (
    id INTEGER PRIMARY KEY,
    site INTEGER,
    first_step INTEGER,
    last_step INTEGER,
    observations INTEGER,
    zeros INTEGER,
    infinities INTEGER,
    nans INTEGER,
    amax REAL,
    sum_abs REAL,
    sum_squares REAL,
    octaves BLOB
);

CREATE INDEX window_of_site ON site_window (site, first_step, last_step);

CREATE TABLE step (
    step INTEGER PRIMARY KEY,
    loss REAL,
    gradient_amax REAL,
    gradient_amax_site INTEGER,
    log2_scale REAL
);

CREATE TABLE update_window (
    id INTEGER PRIMARY KEY,
    parameter TEXT,
    first_step INTEGER,
    last_step INTEGER,
    steps INTEGER,
    sampled INTEGER,
    learning_rate REAL,
    below_2_24 INTEGER,
    ratio_above_2048 INTEGER,
    sums BLOB
);

CREATE INDEX update_of_parameter ON update_window (parameter, first_step, last_step)
"""
CREATE: Final = tuple(statement.strip() for statement in _SCRIPT.split(";"))

COMPLETE_NAME: Final = "precscope:complete"
"""A row of ``meta`` that says that the writer was closed."""
COMPLETE_ROW: Final = (COMPLETE_NAME, "true")
MARK_COMPLETE: Final = f"INSERT OR REPLACE INTO meta VALUES ('{COMPLETE_NAME}', 'true')"


def create(connection: sqlite3.Connection) -> None:
    """Give an empty database the identity and the tables of a Recording."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in CREATE:
        connection.execute(statement)


def has_our_tables(connection: sqlite3.Connection) -> bool:
    """Whether the schema is ours word for word.

    A view, trigger, generated column or virtual table in a stranger's file is code that would
    run while we read; nothing but the exact statements above is accepted.
    """
    found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master")}
    return found == set(CREATE)


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open without the right to change anything, neither the file nor this process."""
    connection = _connect(path, "ro", READ_TIMEOUT_SECONDS)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def connect_to_write(path: Path, timeout_seconds: float, durable: bool) -> sqlite3.Connection:
    """Open an existing file for one transaction.

    What a process wrote survives its death without any ``fsync``; only a power cut does not
    forgive it. An ``fsync`` per flush would stall training by tens of milliseconds on a
    network disk, so only the last transaction asks for it.
    """
    connection = _connect(path, "rw", timeout_seconds)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    return connection


def _connect(path: Path, mode: str, timeout_seconds: float) -> sqlite3.Connection:
    # as_uri() quotes '?', '#' and '%', which would otherwise end the path or change it.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_seconds, isolation_level=None)
