"""Calling the user's code: its folder importable, its exceptions told in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from precscope.errors import PrecscopeError, WorkloadError

MESSAGE_CHARACTERS = 300


@contextmanager
def folder_on_path(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on ``sys.path``, as Python does for the script that it runs."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:  # the user's code may have replaced or cleaned the list
            sys.path.remove(entry)


@contextmanager
def own_command_line(path: Path) -> Iterator[None]:
    """``sys.argv`` of a program without arguments: ours would be strange to the file's argparse."""
    ours, sys.argv = sys.argv, [str(path)]
    try:
        yield
    finally:
        sys.argv = ours


@contextmanager
def calling(path: Path, what: str) -> Iterator[None]:
    """Run code of the model file ``path``, with its folder importable and no arguments.

    Args:
        path: the model file, absolute.
        what: what is being called, for the message: ``"model()"``.

    Raises:
        WorkloadError: the code raised an exception or called ``sys.exit``. The message has the
            innermost line of the model file; the exception itself is ``__cause__``.
            KeyboardInterrupt passes through.
    """
    try:
        with folder_on_path(path.parent), own_command_line(path):
            yield
    except PrecscopeError:
        raise
    except SystemExit as stop:
        raise WorkloadError(f"{place(path, stop)}: {what} {_exited(stop)}") from stop
    except Exception as error:
        told = f"{type(error).__name__}: {one_line(error)}"
        raise WorkloadError(f"{place(path, error)}: {what} raised {told}") from error


def place(path: Path, error: BaseException) -> str:
    """``model.py:12`` for the innermost frame in ``path``, ``model.py`` if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path.name}:{lines[-1]}" if lines else path.name


def _exited(stop: SystemExit) -> str:
    code = "" if stop.code is None else one_line(stop)
    return (
        f"ended the program by sys.exit({code}): a model file gets no arguments and must not exit,"
        ' put its command line under if __name__ == "__main__"'
    )


def one_line(error: BaseException) -> str:
    """The message on one line, cut at 300 characters."""
    words = " ".join(str(error).split())
    return words if len(words) <= MESSAGE_CHARACTERS else words[: MESSAGE_CHARACTERS - 3] + "..."
