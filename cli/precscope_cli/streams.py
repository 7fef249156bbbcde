"""The two streams of the process: the report goes to stdout, everything else to stderr.

A reader that goes away (``| head``) is no error: what was asked for has been written to files.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 80


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

    plain = "NO_COLOR" in os.environ or not stream.isatty()
    return Console(
        file=stream,
        width=_columns() if plain and not stream.isatty() else None,
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
    """Write a line for the person to stderr."""
    _write(sys.stderr, text + "\n")


def put(text: str) -> None:
    """Write the report to stdout."""
    _write(sys.stdout, text)


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


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except (BrokenPipeError, ConnectionResetError):
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Point the stream's descriptor at nothing, or Python complains when it flushes at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _columns() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdigit() and int(columns) >= 20 else PLAIN_WIDTH
