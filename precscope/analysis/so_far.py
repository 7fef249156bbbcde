"""What the observers have seen so far, at hand for the probes without a look into the file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.histogram import ExponentHistogram
from precscope.monitor.sink import Sink
from precscope.recording import Recording
from precscope.recording.contents import Contents
from precscope.recording.schema import MAX_STEPS
from precscope.recording.thinning import thin_steps

WAITING: Final = 8
"""Histograms of a site that wait to be added up: some forty kilobytes."""


class SoFar:
    """A sink that hands every fact on, and keeps what judging gradients and ranges takes.

    That is per site the statistics of the whole run, and the steps, thinned as in the file.

    Args:
        sink: receives every fact; usually the writer of the Recording.

    Attributes:
        seconds: spent on adding up while facts came in: a cost of the probes.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._sites: list[Site] = []
        self._parts: list[list[ExponentHistogram]] = []
        self._steps: dict[int, StepRecord] = {}
        self.seconds = 0.0

    def add_site(self, site: Site) -> int:
        """Register a site; returns its index."""
        self._sites.append(site)
        self._parts.append([])
        return self._sink.add_site(site)

    def add_window(self, site_id: int, window: Window) -> None:
        """Add a site's statistics."""
        self._sink.add_window(site_id, window)
        parts = self._parts[site_id]
        parts.append(window.histogram)
        if len(parts) > WAITING:
            start = time.perf_counter()
            self.histogram(site_id)
            self.seconds += time.perf_counter() - start

    def add_step(self, record: StepRecord) -> None:
        """Add a step; the same step told again replaces the first telling."""
        self._sink.add_step(record)
        self._steps[record.step] = record

    def add_update(self, window: UpdateWindow) -> None:
        """Hand it on: updates are judged when all is over."""
        self._sink.add_update(window)

    def put_document(self, name: str, value: Any) -> None:
        """Hand it on."""
        self._sink.put_document(name, value)

    def flush(self) -> object:
        """Let the sink write, and thin the steps."""
        if len(self._steps) > MAX_STEPS:
            kept = thin_steps(list(self._steps.values()), MAX_STEPS)
            self._steps = {record.step: record for record in kept}
        return self._sink.flush()

    def recording(self) -> Recording:
        """Sites, their statistics over the run until now, and steps; no windows, no updates."""
        return _Snapshot(self, Contents(sites=tuple(self._sites), steps=[*self._steps.values()]))

    def histogram(self, site_id: int) -> ExponentHistogram:
        """Statistics of a site until now; empty if it was never observed."""
        parts = self._parts[site_id]
        if len(parts) != 1:
            parts[:] = [total(parts)]
        return parts[0]


class _Snapshot(Recording):
    """A Recording that adds a site's statistics up when it is first asked for them.

    To be read before anything further is observed.
    """

    def __init__(self, source: SoFar, contents: Contents) -> None:
        super().__init__(contents)
        self._source = source

    def histogram(self, site_id: int) -> ExponentHistogram:
        if site_id not in self._histograms:
            self._histograms[site_id] = self._source.histogram(site_id)
        return self._histograms[site_id]


def total(parts: Sequence[ExponentHistogram]) -> ExponentHistogram:
    """All of them together: exact in every count, sums in the order given; empty for none."""
    if len(parts) < 2:
        return parts[0] if parts else ExponentHistogram()
    return ExponentHistogram(
        counts=np.add.reduce([part.counts for part in parts]),
        powers=np.add.reduce([part.powers for part in parts]),
        zeros=sum(part.zeros for part in parts),
        infinities=sum(part.infinities for part in parts),
        nans=sum(part.nans for part in parts),
        amax=max(part.amax for part in parts),
        sum_abs=sum(part.sum_abs for part in parts),
        sum_squares=sum(part.sum_squares for part in parts),
    )
