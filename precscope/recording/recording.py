"""Recording: everything that was measured in a run, in memory, read only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from precscope.errors import RecordingError
from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.histogram import ExponentHistogram
from precscope.recording.codec import histogram_from_rows
from precscope.recording.contents import Contents
from precscope.recording.merging import merge_contents, of_one_run
from precscope.recording.ranks import recordings_at
from precscope.recording.reader import read
from precscope.recording.series import WINDOWS
from precscope.recording.values import Row


class Recording:
    """What was measured in a run: a snapshot, detached from the file it came from.

    Made by ``Recording.open``, ``Recording.merge`` or ``Recording.from_facts``.
    """

    def __init__(self, contents: Contents, path: Path | None = None) -> None:
        self._contents = contents
        self._path = path
        self._histograms: dict[int, ExponentHistogram] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a file written by ``RecordingWriter``, also while it is being written.

        The file is treated as a stranger's: nothing in it is executed, every value is checked.

        Args:
            path: the file; the name without ``.rank0`` for all ranks of a distributed run,
                merged; or the folder of either.

        Raises:
            RecordingError: no such file, not a Recording, written by a newer precscope,
                damaged, or locked; one line.
        """
        files = recordings_at(path)
        contents = [read(file) for file in files]
        if len(files) == 1:
            return cls(contents[0], files[0])
        return cls(merge_contents(of_one_run(contents)), Path(path))

    @classmethod
    def open_own(cls, path: Path) -> Recording:
        """``open`` for the one file that this very process is writing: read without distrust.

        Raises:
            RecordingError: as ``open``.
        """
        return cls(read(path, is_own=True), path)

    @classmethod
    def from_facts(
        cls,
        *,
        meta: Mapping[str, Any] | None = None,
        sites: Sequence[Site] = (),
        windows: Mapping[int, Sequence[Window]] | None = None,
        steps: Sequence[StepRecord] = (),
        updates: Mapping[str, Sequence[UpdateWindow]] | None = None,
        documents: Mapping[str, Any] | None = None,
    ) -> Recording:
        """A Recording that was never in a file; ``windows`` is per site id."""
        rows = {
            site_id: [WINDOWS.checked_row(site_id, window) for window in found]
            for site_id, found in (windows or {}).items()
        }
        contents = Contents(
            dict(meta or {}), tuple(sites), rows, list(steps), updates or {}, documents or {}
        )
        return cls(contents)

    @classmethod
    def merge(cls, recordings: Sequence[Recording]) -> Recording:
        """The Recordings of all ranks of one run as one, by exact addition of counts.

        Sites match by name and kind; windows over the same steps add, others stay side by side
        in order of time. Of a parameter that ranks hold copies of, as under DDP, the first copy
        counts; shards, as under FSDP2, add up to the whole. A step keeps its largest gradient
        and the mean of the ranks' losses. What was not finite is told of all ranks; other
        documents and ``meta`` come from the first rank that has them; ``meta`` also gets
        ``ranks``, the number of Recordings.

        Raises:
            RecordingError: there is nothing to merge.
        """
        if not recordings:
            raise RecordingError("nothing to merge: name at least one Recording")
        merged = merge_contents([recording._contents for recording in recordings])
        return cls(merged, recordings[0]._path)

    @property
    def path(self) -> Path | None:
        """The file it was read from, the first one if merged, None if there is none."""
        return self._path

    @property
    def is_complete(self) -> bool:
        """Whether the writer was closed; False while the run goes on, or if it was killed."""
        return self._contents.is_complete

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the run as a whole."""
        return dict(self._contents.meta)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites; the index is the site's id."""
        return self._contents.sites

    @property
    def steps(self) -> list[StepRecord]:
        """Observed steps in order; at most 4096, neighbours keep the larger gradient."""
        return list(self._contents.steps)

    @property
    def updates(self) -> dict[str, list[UpdateWindow]]:
        """Update retention per parameter, windows in order of time."""
        return {name: list(windows) for name, windows in self._contents.updates.items()}

    @property
    def documents(self) -> tuple[str, ...]:
        """Names of the stored documents."""
        return tuple(self._contents.documents)

    def document(self, name: str, default: Any = None) -> Any:
        """A stored JSON document, ``default`` if there is none of that name."""
        return self._contents.documents.get(name, default)

    def with_documents(self, documents: Mapping[str, Any]) -> Recording:
        """This snapshot with further documents; what was decoded of it stays decoded."""
        known = {**self._contents.documents, **documents}
        other = Recording(replace(self._contents, documents=known), self._path)
        other._histograms = self._histograms
        return other

    def windows(self, site_id: int) -> list[Window]:
        """Statistics of a site over time, in order; empty if it was never observed.

        Raises:
            RecordingError: no such site.
        """
        return [WINDOWS.from_row(row) for row in self._rows(site_id)]

    def histogram(self, site_id: int) -> ExponentHistogram:
        """Statistics of a site over the whole run; empty if it was never observed.

        Raises:
            RecordingError: no such site.
        """
        if site_id not in self._histograms:
            self._histograms[site_id] = histogram_from_rows(self._rows(site_id))
        return self._histograms[site_id]

    def _rows(self, site_id: int) -> Sequence[Row]:
        if not 0 <= site_id < len(self.sites):
            raise RecordingError(f"no site {site_id}: there are {len(self.sites)}")
        return self._contents.windows.get(site_id, ())
