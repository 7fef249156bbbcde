"""What is added to a Recording that the process of a script has completed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from precscope.errors import RecordingError
from precscope.recording import Recording, codec, schema, values
from precscope.recording.pending import Pending
from precscope.recording.seal import SEAL_NAME, Seal
from precscope.recording.series import UPDATES, WINDOWS
from precscope.recording.writer import CLOSE_TIMEOUT_SECONDS


def add_documents(path: Path, documents: dict[str, Any]) -> None:
    """Store documents in a Recording, each in place of the one that was there.

    Raises:
        RecordingError: the file cannot be written.
    """
    pending = Pending()
    for name, value in documents.items():
        pending.documents[values.text_to_sql(name)] = values.json_to_sql(value)
    _write(path, pending)


def add_autocast_dtypes(path: Path, dtypes: dict[tuple[str, str], str]) -> None:
    """Store which dtype sites have under autocast, by name and kind.

    Raises:
        RecordingError: the file cannot be read or written.
    """
    pending = Pending()
    for index, site in enumerate(Recording.open(path).sites):
        dtype = dtypes.get((site.name, site.kind))
        if dtype is not None:
            pending.sites[index] = codec.site_to_row(index, replace(site, autocast_dtype=dtype))
    _write(path, pending)


def _write(path: Path, pending: Pending) -> None:
    try:
        with closing(schema.connect_to_write(path, CLOSE_TIMEOUT_SECONDS, True)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            seal = _seal(connection)
            pending.write(connection, seal)
            seal.write(connection)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise RecordingError(f"cannot write {path}: {error}") from error


def _seal(connection: sqlite3.Connection) -> Seal:
    """The seal of what is in the file, to go on with."""
    seal = Seal()
    for table in ("meta", "document", "site", "step"):
        rows = connection.execute(f"SELECT * FROM {table}")
        seal.put(table, (row for row in rows if (table, row[0]) != ("meta", SEAL_NAME)))
    for series in (WINDOWS, UPDATES):
        seal.add(series.table, connection.execute(series.select))
    return seal
