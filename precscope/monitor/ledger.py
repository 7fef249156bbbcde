"""The steps that have ended, until a flush turns them into facts for the sink."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from precscope.monitor.marks import EndedStep, Marks
from precscope.monitor.readback import HostReader
from precscope.monitor.rows import RowStore
from precscope.monitor.sink import Sink
from precscope.monitor.sitebook import SiteBook
from precscope.monitor.turnover import (
    PendingStep,
    on_devices,
    read_back,
    step_records,
    windows,
)
from precscope.monitor.updates import UpdateSampler

FLUSH_SECONDS = 10.0


class Ledger:
    """Collects ended steps on their devices and hands them over together.

    Args:
        sink: receives the facts.
        rows: what was counted.
        book: the sites that the rows belong to.
    """

    def __init__(self, sink: Sink, rows: RowStore, book: SiteBook) -> None:
        self._sink = sink
        self._rows = rows
        self._book = book
        self._pending: list[PendingStep] = []
        self._facts: deque[Callable[[], None]] = deque()
        self._marks = Marks()
        self._reader = HostReader()
        self._flushed_at = time.monotonic()

    @property
    def has_pending(self) -> bool:
        """Whether a step has ended since the last flush."""
        return bool(self._pending)

    @property
    def is_due(self) -> bool:
        """Whether the logs are full, or the last flush is ten seconds ago."""
        full = len(self._pending) == self._rows.log_steps
        return full or time.monotonic() - self._flushed_at > FLUSH_SECONDS

    def end_step(self, step: PendingStep) -> None:
        """Turn the rows over to the next step."""
        self._rows.end_step(len(self._pending), step.scale)
        self._pending.append(step)

    def flush(self, samplers: Iterable[UpdateSampler], documents: Mapping[str, Any]) -> None:
        """Hand over everything so far, with these documents, and let the sink make it durable."""
        # Before: where it cannot be written, it is not tried again at every step.
        self._flushed_at = time.monotonic()
        if self._pending:
            self._hand_over(samplers)
        self._tell()
        if self._marks.count:
            self._sink.put_document("non_finite", self._marks.document())
        for name, document in documents.items():
            self._sink.put_document(name, document)
        self._sink.flush()

    def _hand_over(self, samplers: Iterable[UpdateSampler]) -> None:
        known = list(samplers)
        tensors = [*self._rows.filled(len(self._pending)), *on_devices(self._pending)]
        tensors += [tensor for sampler in known for tensor in sampler.filled()]
        arrays = iter(self._reader.read(tensors))
        taken = self._rows.taken(arrays)
        ended = read_back(self._pending, arrays)
        sites = {entry.index: entry.site for entry in self._book.entries}
        facts = [partial(self._sink.add_window, *f) for f in windows(taken, *_ends(ended))]
        facts += [partial(self._sink.add_step, r) for r in step_records(taken, ended, sites)]
        facts += [partial(self._sink.add_update, u) for s in known for u in s.taken(arrays)]
        # Until here an interrupted flush has changed nothing, from here on it is gone on with.
        self._facts.extend(facts)
        self._pending.clear()
        self._rows.empty()
        for sampler in known:
            sampler.empty()
        self._marks.add(taken, ended, sites)

    def _tell(self) -> None:
        """Hand over the facts; those after one that the sink refuses are dropped."""
        try:
            while self._facts:
                self._facts.popleft()()
        except Exception:
            self._facts.clear()
            raise


def _ends(ended: list[EndedStep]) -> tuple[int, int]:
    return ended[0][0], ended[-1][0]
