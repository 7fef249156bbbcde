"""Starting a script's process, following it, and passing signals on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import precscope
from precscope.script.job import EventReader, Job

POLL_SECONDS = 0.1

PATIENCE_SECONDS = 30.0
"""How long a run that is not shown may take to end once its steps are done: a script may catch
what is to end it."""

BOOTSTRAP = """
import sys
if not getattr(sys.flags, "safe_path", False): del sys.path[0]
clean = list(sys.path)
sys.path.insert(0, {home!r})
import precscope
sys.path[:] = clean
import numpy, torch
loaded = frozenset(sys.modules)
from precscope.script.child import main
main({job!r}, loaded)
"""


@dataclass(slots=True)
class Ended:
    """How a run of a script ended.

    Attributes:
        exit_code: as a shell shows it: 128 plus the number of the signal that ended it.
        events: all that the process told, oldest first.
        complaints: the end of what it wrote to a stderr that was not shown.
        seconds: how long the process ran.
    """

    exit_code: int
    events: list[dict[str, Any]] = field(default_factory=list)
    complaints: str = ""
    seconds: float = 0.0

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind."""
        return [event for event in self.events if event["event"] == kind]


def run_script(
    job: Job, on_event: Callable[[dict[str, Any]], None], stdout: int | None, is_shown: bool
) -> Ended:
    """Run a job in a fresh process and wait for its end.

    Args:
        job: what to run; its ``events`` are filled in.
        on_event: called for every event as it comes.
        stdout: where the script's stdout goes, None for ours.
        is_shown: the script has our stdin and stderr; otherwise none, and its stderr is kept.
    """
    with tempfile.TemporaryDirectory(prefix="precscope-") as folder:
        events = Path(folder) / "events"
        job = replace(job, events=str(events))
        job.write(Path(folder) / "job")
        reader = EventReader(events)
        code = BOOTSTRAP.format(home=_home(), job=str(Path(folder) / "job"))
        with tempfile.TemporaryFile() as kept:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=None if is_shown else subprocess.DEVNULL,
                stdout=stdout,
                stderr=None if is_shown else kept,
            )
            began = time.monotonic()
            seen: list[dict[str, Any]] = []
            patience = None if is_shown else PATIENCE_SECONDS
            with _signals_to(process):
                _follow(process, reader, seen, on_event, patience)
            seconds = time.monotonic() - began
            return Ended(_shell_code(process.returncode), seen, _tail(kept), seconds)


def _follow(
    process: subprocess.Popen[bytes],
    reader: EventReader,
    seen: list[dict[str, Any]],
    on_event: Callable[[dict[str, Any]], None],
    patience_seconds: float | None,
) -> None:
    running = True
    done_at: float | None = None
    try:
        while running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
                running = False
            for event in reader:
                seen.append(event)
                on_event(event)
                if event["event"] == "done" and done_at is None:
                    done_at = time.monotonic()
            if done_at and patience_seconds and time.monotonic() - done_at > patience_seconds:
                process.kill()
    except BaseException:
        process.kill()
        process.wait()
        raise


@contextmanager
def _signals_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the script runs, Ctrl-C and SIGTERM are its own to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, frame: Any) -> None:
        if not (number == signal.SIGINT and _has_terminal()):
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, pass_on) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _has_terminal() -> bool:
    """Whether the terminal itself sends Ctrl-C to the script, which is in our group."""
    with suppress(OSError, AttributeError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


def _home() -> str:
    return str(Path(str(precscope.__file__)).resolve().parent.parent)


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _tail(kept: IO[bytes]) -> str:
    kept.seek(0)
    return kept.read().decode(errors="replace")[-4000:].strip()
