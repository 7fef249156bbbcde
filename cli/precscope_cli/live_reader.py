"""Looks at a Recording that another process writes, again and again, and never gives up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import stat_result
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precscope.errors import RecordingError
from precscope_cli.sides import files_of, made_from

if TYPE_CHECKING:
    from precscope.recording import Recording
    from precscope_reports.terminal.live import State

SILENT_AFTER_SECONDS = 60.0
"""Nothing written for this long, and the Recording not closed: perhaps the process was killed."""

Stamp = tuple[int, int, int]
"""Of a file: its number, size, and time of the last write."""
Identity = tuple[int, "str | None"]
"""Of a training: number of its file, and the time at which it began, None until that is written."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was to be seen at one moment.

    Attributes:
        path: the Recording that was looked at.
        state: ``waiting`` for a file that is not there or has no bytes yet, ``unreadable``
            (locked, damaged or foreign), ``empty`` (nothing observed yet), ``recording``,
            ``silent`` (not closed, and nothing written for a minute), or ``ended`` (closed).
        reason: why there is nothing new to show, in one line; empty where there is.
        written_s: seconds since the file was last written; None if there is no file.
        restarts: how often another Recording took the place of the one before.
        news: how often something new was read; two looks of the same number show the same.
        result: the last result that could be read, None if there was none; see ``docs/json.md``.
        steps: observed steps, of the same moment.
        skipped: updates that were skipped, of the same moment.
    """

    path: Path
    state: State = "waiting"
    reason: str = ""
    written_s: float | None = None
    restarts: int = 0
    news: int = 0
    result: dict[str, Any] | None = None
    steps: tuple[Any, ...] = ()
    skipped: int = 0


class LiveReader:
    """Reads a Recording whenever it changed.

    Args:
        run: the Recording, or the folder of a run; need not exist yet.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._last = Look(run)
        self._stamps: tuple[Stamp, ...] = ()
        self._identity: Identity | None = None
        self._is_complete = False

    def look(self) -> Look:
        """What is to be seen now. Never raises for what a file can do."""
        try:
            found = [path.stat() for path in files_of(self._run)]
        except (OSError, ValueError, RecordingError) as error:
            self._stamps = ()
            self._last = replace(self._last, state="waiting", reason=_why(error), written_s=None)
            return self._last
        written_s = max(0.0, time.time() - max(file.st_mtime for file in found))
        self._last = replace(self._last, written_s=written_s)
        stamps = tuple((file.st_ino, file.st_size, file.st_mtime_ns) for file in found)
        if stamps != self._stamps and not self._read(found):
            return self._last
        self._stamps = stamps
        self._last = replace(self._last, state=self._state(), reason="")
        return self._last

    def _read(self, found: Sequence[stat_result]) -> bool:
        """Take in what the file holds now; False, and why, if it cannot be read."""
        try:
            recording, result = made_from(self._run, lambda: _opened(self._run))
        except (RecordingError, OSError) as error:
            # A file without bytes is one that its writer has only just made.
            empty = not any(file.st_size for file in found)
            state: State = "waiting" if empty else "unreadable"
            self._last = replace(self._last, state=state, reason=_why(error))
            return False
        identity = (found[0].st_ino, result["environment"].get("created"))
        restarted = _is_another(self._identity, identity)
        self._identity, self._is_complete = identity, recording.is_complete
        marks = recording.document("non_finite") or {}
        self._last = replace(
            self._last,
            restarts=self._last.restarts + restarted,
            news=self._last.news + 1,
            result=result,
            steps=tuple(recording.steps),
            skipped=int(marks.get("skipped", 0)),
        )
        return True

    def _state(self) -> State:
        last = self._last
        if self._is_complete:
            return "ended"
        if last.written_s is not None and last.written_s > SILENT_AFTER_SECONDS:
            return "silent"
        return "recording" if last.steps else "empty"


def _opened(path: Path) -> tuple[Recording, dict[str, Any]]:
    from precscope.recording import Recording
    from precscope.result import build_result

    recording = Recording.open(path)
    return recording, build_result(recording)


def _is_another(before: Identity | None, now: Identity) -> bool:
    """Whether another training writes now. The number of a removed file may be given out again."""
    if before is None:
        return False
    return before[0] != now[0] or (before[1] is not None and before[1] != now[1])


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
