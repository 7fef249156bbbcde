"""The two streams of the process: the report goes to stdout, everything else to stderr.

A reader that goes away (``| head``) is no error: what was asked for has been written to files.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from precscope.errors import PrecscopeError

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 80
PLAIN_HEIGHT = 25
"""Given with a width, or rich reads ``COLUMNS`` itself and takes ``²`` for a number."""
NARROWEST, WIDEST = 20, 1000
"""Columns that a pipe is given at its request; every line is filled before it is trimmed."""


def open_missing_streams() -> None:
    """Let a process that was started without stdout or stderr write to nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nothing = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
            setattr(sys, name, nothing)


@contextmanager
def stdout_kept_free() -> Iterator[None]:
    """Send to stderr what the user's code prints, also from C and from child processes."""
    sys.stdout.flush()
    try:
        kept = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):  # streams of Python's own, with no descriptor
        kept = None
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, sys.stdout.fileno())
            os.close(kept)


@dataclass(frozen=True, slots=True)
class Look:
    """How text for a stream may look.

    Attributes:
        width: columns.
        color_system: rich's name of the colours that the terminal has, None for plain text.
        encoding: of the stream.
    """

    width: int = PLAIN_WIDTH
    color_system: str | None = None
    encoding: str = "utf-8"


def console_for(stream: TextIO) -> Console:
    """A rich console on ``stream`` that takes no markup from the text it prints."""
    from rich.console import Console

    piped = not stream.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or piped
    return Console(
        file=stream,
        width=_columns() if piped else None,
        height=PLAIN_HEIGHT if piped else None,
        color_system=None if plain else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )


def look_of(stream: TextIO) -> Look:
    """The look that suits ``stream``: plain and 80 columns unless it is a terminal."""
    console = console_for(stream)
    return Look(console.width, console.color_system, console.encoding)


def tell(text: str) -> None:
    """Write a line for the person to stderr, if it can be written."""
    with suppress(PrecscopeError):
        _write(sys.stderr, text + "\n")


def put(text: str) -> bool:
    """Write the report to stdout; False if its reader has gone away.

    Raises:
        PrecscopeError: stdout cannot be written: its disk is full.
    """
    return _write(sys.stdout, text)


def trimmed(text: str) -> str:
    """``text`` without the spaces with which rich fills its cells."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def one_line(text: str) -> str:
    """``text`` on one line, with control characters made visible."""
    return "".join(_visible(character) for character in " ".join(text.split()))


def _visible(character: str) -> str:
    if unicodedata.category(character) in {"Cc", "Cf", "Cs"}:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _write(stream: TextIO, text: str) -> bool:
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except (BrokenPipeError, ConnectionResetError):
        _discard(stream)
        return False
    except OSError as error:
        _discard(stream)
        raise PrecscopeError(f"cannot write the output: {error.strerror or error}") from error
    return True


def _discard(stream: TextIO) -> None:
    """Point the stream's descriptor at nothing, or Python complains when it flushes at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    if not re.fullmatch("[0-9]{1,9}", columns) or int(columns) < NARROWEST:
        return PLAIN_WIDTH
    return min(int(columns), WIDEST)
