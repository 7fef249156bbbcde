"""The Recording: one bounded SQLite file per process; write, read, merge."""

from __future__ import annotations

from precscope.recording.recording import Recording
from precscope.recording.writer import RecordingWriter

__all__ = ["Recording", "RecordingWriter"]
