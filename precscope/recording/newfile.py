"""The creation of a Recording: never over a file that is not one."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from precscope.errors import RecordingError
from precscope.recording import schema, values
from precscope.recording.seal import Seal

_SQLITE_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = 68


def create_file(path: Path, meta: dict[str, Any], overwrite: bool) -> Seal:
    """Create a Recording that holds ``meta`` and nothing else; returns its seal.

    Raises:
        RecordingError: the path is taken or cannot be written, or ``meta`` has no JSON form.
    """
    rows, seal = _meta_rows(meta), Seal()
    seal.put("meta", rows)
    _claim(path, overwrite)
    try:
        with closing(schema.connect_to_write(path, schema.READ_TIMEOUT_SECONDS, False)) as new:
            new.execute("BEGIN IMMEDIATE")
            schema.create(new)
            new.executemany("INSERT INTO meta VALUES (?, ?)", rows)
            seal.write(new)
            new.execute("COMMIT")
    except sqlite3.Error as error:
        path.unlink(missing_ok=True)
        raise RecordingError(f"cannot write {path}: {error}") from error
    return seal


def _meta_rows(meta: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        return [(values.text_to_sql(name), values.json_to_sql(meta[name])) for name in meta]
    except (ValueError, TypeError) as error:
        raise RecordingError(f"cannot record this meta: {error}") from error


def _claim(path: Path, overwrite: bool) -> None:
    """Make ``path`` an empty file of ours, atomically, so that two runs never share one."""
    try:
        if overwrite and path.exists():
            _remove_recording(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
    except FileExistsError:
        raise RecordingError(f"{path} exists: choose another path") from None
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"cannot write {str(path)!r}: {error}") from error


def _remove_recording(path: Path) -> None:
    with path.open("rb") as file:
        header = file.read(_APPLICATION_ID_AT + 4)
    ours = header[_APPLICATION_ID_AT:] == schema.APPLICATION_ID.to_bytes(4, "big")
    if header and not (ours and header.startswith(_SQLITE_MAGIC)):
        raise RecordingError(f"{path} is not a precscope Recording: choose another path")
    path.unlink()
    Path(f"{path}-journal").unlink(missing_ok=True)
