"""Where a monitor's facts go. The recording room implements this; the monitor only names it."""

from __future__ import annotations

from typing import Any, Protocol

from precscope.facts import Site, StepRecord, UpdateWindow, Window


class Sink(Protocol):
    """Receives facts; ``flush`` makes all of them durable together."""

    def add_site(self, site: Site) -> int:
        """Register a site; returns its index, counted from 0."""

    def add_window(self, site_id: int, window: Window) -> None:
        """Add one site's statistics over a window of steps."""

    def add_step(self, record: StepRecord) -> None:
        """Add one observed step."""

    def add_update(self, window: UpdateWindow) -> None:
        """Add one parameter's update retention over a window of steps."""

    def put_document(self, name: str, value: Any) -> None:
        """Store a JSON document under a name, replacing an earlier one."""

    def flush(self) -> object:
        """Write everything added so far in one transaction."""


class NullSink:
    """Forgets every fact: for measuring what observing itself costs, and for looking at sites."""

    def __init__(self) -> None:
        self.sites: list[Site] = []

    def add_site(self, site: Site) -> int:
        """Keep the site, which the monitor needs an index for."""
        self.sites.append(site)
        return len(self.sites) - 1

    def add_window(self, site_id: int, window: Window) -> None:
        """Forget it."""

    def add_step(self, record: StepRecord) -> None:
        """Forget it."""

    def add_update(self, window: UpdateWindow) -> None:
        """Forget it."""

    def put_document(self, name: str, value: Any) -> None:
        """Forget it."""

    def flush(self) -> None:
        """Nothing to write."""
