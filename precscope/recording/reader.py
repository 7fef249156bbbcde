"""Reads the rows of a file, anybody's file, or raises one clear RecordingError."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from precscope.errors import RecordingError
from precscope.recording import schema
from precscope.recording.contents import Contents
from precscope.recording.decoding import Tables, decode
from precscope.recording.series import UPDATES, WINDOWS

_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")


def read(path: Path, is_own: bool = False) -> Contents:
    """Read a Recording, a live one included.

    Args:
        path: the file.
        is_own: whether this process wrote it: its windows were checked as they were written.

    Raises:
        RecordingError: no such file, not a Recording, of a newer schema, damaged, or locked.
    """
    _check_file(path)
    try:
        return decode(_tables(path), is_own)
    except sqlite3.Error as error:
        raise RecordingError(_explain(path, error)) from error
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, OverflowError) as error:
        raise RecordingError(f"{path} is damaged: {_one_line(error)}") from error


def _check_file(path: Path) -> None:
    # Never opened by hand: closing a second descriptor would drop, for the whole process, the
    # locks that a writer in another thread holds on it (POSIX).
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"cannot read {str(path)!r}: {error}") from error
    if not path.is_file():
        raise RecordingError(f"{path} is not a file: name the Recording itself")
    if size == 0:
        raise RecordingError(f"{path} is empty: it is not a precscope Recording")


def _explain(path: Path, error: sqlite3.Error) -> str:
    message = _one_line(error)
    if "not a database" in message:
        return _foreign(path)
    if "locked" in message:
        return f"{path} is locked by another process: try again"
    if "unable to open" in message:
        why = message if os.access(path, os.R_OK) else os.strerror(errno.EACCES)
        return f"cannot read {path}: {why}"
    return f"{path} is damaged: {message}"


def _foreign(path: Path) -> str:
    return f"{path} is not a precscope Recording"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _tables(path: Path) -> Tables:
    try:
        return _read_tables(path, path)
    except sqlite3.OperationalError as error:
        journal = Path(f"{path}-journal")
        if "locked" in str(error) or not journal.is_file():
            raise
        return _recover_tables(path, journal)


def _recover_tables(path: Path, journal: Path) -> Tables:
    """Read a file whose writer was killed in the middle of a transaction.

    To undo the half-written transaction SQLite must write, which a reader may not. So it is
    undone in a copy. No writer is alive here: its lock would have made the read fail.
    """
    with tempfile.TemporaryDirectory(prefix="precscope-") as folder:
        copy = Path(folder, "copy")
        shutil.copyfile(path, copy)
        content = journal.read_bytes()
        if content.endswith(_JOURNAL_MAGIC):
            # It would name a further file, which SQLite deletes. Ours never do.
            raise ValueError("its journal refers to another file")
        Path(f"{copy}-journal").write_bytes(content)
        with closing(schema.connect_to_write(copy, 0.0, durable=False)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return _read_tables(copy, path)


def _read_tables(path: Path, named: Path) -> Tables:
    with closing(schema.connect_to_read(path)) as connection:
        connection.execute("BEGIN")
        _check_identity(connection, path, named)
        return Tables(
            meta=connection.execute("SELECT name, value FROM meta").fetchall(),
            documents=connection.execute("SELECT name, value FROM document").fetchall(),
            sites=connection.execute("SELECT * FROM site ORDER BY id").fetchall(),
            windows=connection.execute(
                f"{WINDOWS.select} ORDER BY site, first_step, id"
            ).fetchall(),
            steps=connection.execute("SELECT * FROM step ORDER BY step").fetchall(),
            updates=connection.execute(f"{UPDATES.select} ORDER BY first_step, id").fetchall(),
        )


def _check_identity(connection: sqlite3.Connection, path: Path, named: Path) -> None:
    if _pragma(connection, "application_id") != schema.APPLICATION_ID:
        raise RecordingError(_foreign(named))
    version = _pragma(connection, "user_version")
    if version > schema.SCHEMA_VERSION:
        raise RecordingError(f"{named} was written by a newer precscope: upgrade precscope")
    if version != schema.SCHEMA_VERSION or not schema.has_our_tables(connection):
        raise ValueError("its tables are not those of a Recording")
    # SQLite takes what is missing of the last page for zeros.
    if path.stat().st_size < _pragma(connection, "page_count") * _pragma(connection, "page_size"):
        raise ValueError("it is cut off at the end")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
