"""Tracebacks as the script would have shown them: without the frames that are ours."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

import precscope

OURS = str(Path(str(precscope.__file__)).resolve().parent)
LOADERS = ("<string>", "<frozen runpy>", "<frozen importlib._bootstrap>")


def hide_our_frames() -> None:
    """Let what the program shows of the exception in flight begin in the script."""
    show = sys.excepthook

    def show_without_ours(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        _clean(error, set())
        show(kind, error, error.__traceback__)

    sys.excepthook = show_without_ours


def without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without frames of precscope, and without what led from there to the script."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    started = False
    kept = []
    for frame in frames:
        name = frame.tb_frame.f_code.co_filename
        started = started or not (_is_ours(name) or _is_loader(name))
        if started and not _is_ours(name):
            kept.append(frame)
    rebuilt: TracebackType | None = None
    for frame in reversed(kept):
        rebuilt = TracebackType(rebuilt, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return rebuilt


def _clean(error: BaseException, done: set[int]) -> None:
    if id(error) in done:
        return
    done.add(id(error))
    error.__traceback__ = without_our_frames(error.__traceback__)
    for other in (error.__cause__, error.__context__):
        if other is not None:
            _clean(other, done)


def _is_ours(file: str) -> bool:
    return file.startswith(OURS)


def _is_loader(file: str) -> bool:
    return file in LOADERS or Path(file).name == "runpy.py"
