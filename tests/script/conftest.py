"""Run a script as it is, and as precscope runs it, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from precscope.recording import Recording
from precscope.script import Script, process
from precscope.script.job import Job
from precscope.script.process import Ended, run_script
from tests.script.forkserver import ForkServer


@dataclass
class Folder:
    """A working directory with scripts in it."""

    path: Path
    server: ForkServer

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(textwrap.dedent(text))

    def plain(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What ``python COMMAND`` does."""
        return subprocess.run(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def run(
        self,
        script: Script,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        fresh: bool = False,
        **job: Any,
    ) -> tuple[Ended, str]:
        """How the script ended under precscope, and what it printed.

        Args:
            script: what is run.
            on_event: called for every event.
            fresh: start a new interpreter, as precscope does, in place of a fork of a warm one.
            **job: fields of the Job.
        """
        given: dict[str, Any] = {"steps": 6, "recording": str(self.path / "run.precscope"), **job}
        if given.get("recipe") is not None:
            given["recording"] = None
        with (self.path / "printed").open("w") as printed, self.starting(fresh):
            ended = run_script(
                Job(script, "", **given), on_event or _ignore, printed.fileno(), is_shown=False
            )
        return ended, (self.path / "printed").read_text()

    @contextmanager
    def starting(self, fresh: bool = False) -> Iterator[None]:
        """Inside, processes of scripts are forks of a warm interpreter, unless ``fresh``."""
        with pytest.MonkeyPatch.context() as patch:
            if not fresh:
                patch.setattr(subprocess, "Popen", self.server.start)
                patch.setattr(process, "POLL_SECONDS", 0.02)
            yield

    @property
    def recording(self) -> Recording:
        return Recording.open(self.path / "run.precscope")


def _ignore(event: dict[str, Any]) -> None:
    pass


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    running = ForkServer()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ForkServer) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    return Folder(tmp_path, server)
