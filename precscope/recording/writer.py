"""RecordingWriter: buffers what is observed, writes it in one transaction per flush."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from precscope.errors import RecordingError
from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.recording import codec, schema, values
from precscope.recording.newfile import create_file
from precscope.recording.pending import Pending

FLUSH_TIMEOUT_SECONDS: Final = 0.25
"""How long a flush waits for a reader: it runs inside the user's training loop."""
CLOSE_TIMEOUT_SECONDS: Final = 30.0


class RecordingWriter:
    """Writes a new Recording.

    Everything added is buffered, bounded, and written by ``flush`` in one transaction: a killed
    process leaves a file that holds all it had at its last flush. Series stay bounded too, see
    ``thinning``. Methods may be called from any thread, one at a time. In a forked child the
    writer is inert: it accepts everything and writes nothing.

    The file is opened for each flush and closed after it. A connection that lived longer would
    be inherited by ``os.fork``, and a child that exits would roll the parent's transaction back.

    Args:
        path: the file to create.
        meta: facts about the run as a whole; keys are strings, values have a JSON form.
        overwrite: replace an existing Recording. Any other file is never replaced.

    Raises:
        RecordingError: the file exists, or cannot be created, or ``meta`` has no JSON form.
    """

    def __init__(
        self, path: str | os.PathLike[str], meta: dict[str, Any], *, overwrite: bool = False
    ) -> None:
        self._path = Path(path).absolute()
        self._pid = os.getpid()
        self._sites: list[Site] = []
        self._pending = Pending()
        self._closed = False
        self._seal = create_file(self._path, meta, overwrite)

    @property
    def path(self) -> Path:
        """The file, absolute: the user's program may change its folder."""
        return self._path

    def add_site(self, site: Site) -> int:
        """Add a place in the model.

        Returns:
            its id: 0, 1, 2, … in the order of the calls.
        """
        self._sites.append(site)
        self.update_site(len(self._sites) - 1, site)
        return len(self._sites) - 1

    def update_site(self, site_id: int, site: Site) -> None:
        """Replace what is known of a site, for example once its autocast dtype is known."""
        self._check_site(site_id)
        self._sites[site_id] = site
        with self._naming("site"):
            row = codec.site_to_row(site_id, site)
            codec.site_from_row(row)
        self._pending.sites[site_id] = row

    def add_window(self, site_id: int, window: Window) -> None:
        """Add statistics of a site; a copy is taken."""
        self._check_site(site_id)
        with self._naming("window"):
            self._pending.windows.add(site_id, window)

    def add_step(self, record: StepRecord) -> None:
        """Add a step; the same step told again replaces the first telling."""
        if record.gradient_amax_site is not None:
            self._check_site(record.gradient_amax_site)
        with self._naming("step"):
            self._pending.add_step(record)

    def add_update(self, update: UpdateWindow) -> None:
        """Add the update retention of one parameter."""
        with self._naming("update window"):
            self._pending.updates.add(update.parameter, update)

    def put_document(self, name: str, value: object) -> None:
        """Store a JSON document under a name, in place of the one that was there."""
        with self._naming(f"document {name!r}"):
            self._pending.documents[values.text_to_sql(name)] = values.json_to_sql(value)

    def flush(self) -> bool:
        """Write everything added since the last flush, in one transaction.

        Returns:
            False if a reader held the file locked; nothing is lost, the next flush writes it.

        Raises:
            RecordingError: the file cannot be written, because the disk is full for example.
        """
        self._check_open()
        return self._write(FLUSH_TIMEOUT_SECONDS, last=False)

    def close(self) -> None:
        """Flush, mark the Recording as complete, and make it durable. Idempotent.

        Raises:
            RecordingError: the file cannot be written, or stayed locked for 30 seconds.
        """
        if self._closed:
            return
        if not self._write(CLOSE_TIMEOUT_SECONDS, last=True):
            raise RecordingError(f"{self._path} stays locked: end the program that reads it")
        self._closed = True

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, timeout_seconds: float, last: bool) -> bool:
        if self._pid != os.getpid():
            self._pending.forget()
            return True
        if not self._pending and not last:
            return True
        try:
            self._transaction(timeout_seconds, last)
        except sqlite3.Error as error:
            if "locked" in str(error):
                return False
            raise RecordingError(f"cannot write {self._path}: {error}") from error
        self._pending.forget()
        return True

    def _transaction(self, timeout_seconds: float, last: bool) -> None:
        with closing(schema.connect_to_write(self._path, timeout_seconds, last)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            # Closing without a commit rolls back, and ``_pending`` still has everything.
            seal = self._seal.copy()
            self._pending.write(connection, seal)
            if last:
                connection.execute(schema.MARK_COMPLETE)
                seal.put("meta", [schema.COMPLETE_ROW])
            seal.write(connection)
            connection.execute("COMMIT")
        self._seal = seal

    def _check_open(self) -> None:
        if self._closed:
            raise RecordingError(f"{self._path} is closed: write before close()")

    def _check_site(self, site_id: int) -> None:
        if not 0 <= site_id < len(self._sites):
            raise RecordingError(f"unknown site {site_id}: add_site() gives the number")

    def _naming(self, what: str) -> _Naming:
        self._check_open()
        return _Naming(what)


class _Naming:
    """Turns the ValueError of an encoder into an error that names what was refused."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What could not be read back is refused here, where the rest of the file is still good.
        if isinstance(error, (ValueError, OverflowError, TypeError, struct.error)):
            raise RecordingError(f"cannot record this {self.what}: {error}") from error
