"""The end of the report: the files that were written, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.terminal.page import Page


def files_written(files: Mapping[str, Path], page: Page) -> Iterator[RenderableType]:
    """Paths, never cut: they are to be opened."""
    if not files:
        return
    yield page.heading("Files")
    for path in files.values():
        yield Text(page.spell(str(path)), no_wrap=True)


def next_commands(commands: Sequence[str], page: Page) -> Iterator[RenderableType]:
    """Commands, never cut: they are to be pasted."""
    if not commands:
        return
    yield page.heading("Next")
    for command in commands:
        yield Text(page.spell(command), style="cyan", no_wrap=True)
