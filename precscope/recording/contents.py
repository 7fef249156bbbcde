"""What a Recording holds once it is in memory, whichever way it came there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from precscope.facts import Site, StepRecord, UpdateWindow
from precscope.recording.values import Row


@dataclass(frozen=True, slots=True)
class Contents:
    """The facts of one run.

    Attributes:
        meta: facts about the run as a whole.
        sites: index is the site's id.
        windows: rows of windows in order of time, per site id. Kept encoded: a window takes a
            quarter of a kilobyte as a row and five as a histogram.
        steps: in order of time.
        updates: in order of time, per parameter.
        documents: JSON documents by name.
        is_complete: whether the writer was closed; False while it runs, or if it was killed.
    """

    meta: Mapping[str, Any] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    windows: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    steps: Sequence[StepRecord] = ()
    updates: Mapping[str, Sequence[UpdateWindow]] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    is_complete: bool = False
