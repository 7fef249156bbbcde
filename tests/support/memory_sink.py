"""A sink that keeps every fact in memory."""

from __future__ import annotations

from typing import Any

from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.histogram import ExponentHistogram


class MemorySink:
    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.windows: list[tuple[int, Window]] = []
        self.steps: list[StepRecord] = []
        self.updates: list[UpdateWindow] = []
        self.documents: dict[str, Any] = {}
        self.flushes = 0

    def add_site(self, site: Site) -> int:
        self.sites.append(site)
        return len(self.sites) - 1

    def add_window(self, site_id: int, window: Window) -> None:
        self.windows.append((site_id, window))

    def add_step(self, record: StepRecord) -> None:
        self.steps.append(record)

    def add_update(self, window: UpdateWindow) -> None:
        self.updates.append(window)

    def put_document(self, name: str, value: Any) -> None:
        self.documents[name] = value

    def flush(self) -> None:
        self.flushes += 1

    def histogram(self, name: str, kind: str) -> ExponentHistogram:
        index = next(i for i, s in enumerate(self.sites) if (s.name, s.kind) == (name, kind))
        merged = ExponentHistogram()
        for site, window in self.windows:
            if site == index:
                merged = merged.merged(window.histogram)
        return merged

    def names(self, kind: str) -> list[str]:
        return [s.name for s in self.sites if s.kind == kind]
