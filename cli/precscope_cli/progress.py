"""How far a run is: a live display on a terminal, one line per phase elsewhere, or nothing.

A display must never end a run: where stderr has gone away it falls silent.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from precscope_cli.streams import console_for, one_line, tell

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

REFRESH_SECONDS = 0.2


class Display(AbstractContextManager["Display"]):
    """Shows nothing; the base of those that do."""

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins, of ``total`` steps if that is known."""

    def advance(self, done: int, note: str = "") -> None:
        """``done`` steps of the phase are over."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the display away."""


class Lines(Display):
    """One line per phase, for logs and pipes."""

    def phase(self, name: str, total: int | None) -> None:
        """Say that the phase begins."""
        steps = f", {total} steps" if total else ""
        tell(f"precscope: {one_line(name)}{steps}")


class Live(Display):
    """A bar per phase, drawn from within ``advance``.

    There is no refresh thread: it would take the interpreter's lock in the middle of steps that
    are being timed, and it would be there when a DataLoader forks.
    """

    def __init__(self, stream: TextIO) -> None:
        self._bars = _bars(stream)
        self._task: TaskID | None = None
        self._total: int | None = None
        self._drawn_at = 0.0

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def phase(self, name: str, total: int | None) -> None:
        """Finish the bar before, and begin another."""
        self._finish()
        self._total = total
        self._task = self._bars.add_task(one_line(name), total=total, count="", note="")
        self._draw()

    def advance(self, done: int, note: str = "") -> None:
        """Move the bar; drawn a few times a second only."""
        if self._task is not None:
            count = f"{done}/{self._total}" if self._total else str(done)
            self._bars.update(self._task, completed=done, count=count, note=one_line(note))
        if time.monotonic() - self._drawn_at >= REFRESH_SECONDS:
            self._draw()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the bars: what they told is in the report."""
        self._bars.stop()

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._bars.tasks[self._bars.task_ids.index(self._task)]
        self._bars.update(self._task, total=task.total or 1, completed=task.total or 1)
        self._bars.stop_task(self._task)

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        self._bars.refresh()


def display_for(quiet: bool) -> Display:
    """The display that suits stderr."""
    if quiet:
        return Display()
    return Live(sys.stderr) if console_for(sys.stderr).is_terminal else Lines()


def _bars(stream: TextIO) -> Bars:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console_for(stream),
        auto_refresh=False,
        transient=True,
    )
