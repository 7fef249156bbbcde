"""Run a script as it is, and as precscope runs it, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from precscope.recording import Recording
from precscope.script import Script
from precscope.script.job import Job
from precscope.script.process import Ended, run_script


@dataclass
class Folder:
    """A working directory with scripts in it."""

    path: Path

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
        self, script: Script, on_event: Callable[[dict[str, Any]], None] | None = None, **job: Any
    ) -> tuple[Ended, str]:
        """How the script ended under precscope, and what it printed."""
        given: dict[str, Any] = {"steps": 6, "recording": str(self.path / "run.precscope"), **job}
        if given.get("recipe") is not None:
            given["recording"] = None
        with (self.path / "printed").open("w") as printed:
            ended = run_script(
                Job(script, "", **given), on_event or _ignore, printed.fileno(), is_shown=False
            )
        return ended, (self.path / "printed").read_text()

    @property
    def recording(self) -> Recording:
        return Recording.open(self.path / "run.precscope")


def _ignore(event: dict[str, Any]) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    return Folder(tmp_path)
