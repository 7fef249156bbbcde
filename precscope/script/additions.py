"""What is added to a Recording that the process of a script has completed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from precscope.facts import Site
from precscope.recording import Recording, RecordingWriter
from precscope.recording.pending import Pending


class _Addition(RecordingWriter):
    """A writer on a file that exists, with the sites that are in it."""

    def __init__(self, path: Path, sites: list[Site]) -> None:
        self._path = path.absolute()
        self._pid = os.getpid()
        self._sites = sites
        self._pending = Pending()
        self._closed = False


def add_documents(path: Path, documents: dict[str, Any]) -> None:
    """Store documents in a Recording, each in place of the one that was there.

    Raises:
        RecordingError: the file cannot be written.
    """
    with _Addition(path, []) as writer:
        for name, value in documents.items():
            writer.put_document(name, value)


def add_autocast_dtypes(path: Path, dtypes: dict[tuple[str, str], str]) -> None:
    """Store which dtype sites have under autocast, by name and kind.

    Raises:
        RecordingError: the file cannot be read or written.
    """
    sites = list(Recording.open(path).sites)
    with _Addition(path, sites) as writer:
        for index, site in enumerate(sites):
            dtype = dtypes.get((site.name, site.kind))
            if dtype is not None:
                writer.update_site(index, replace(site, autocast_dtype=dtype))
