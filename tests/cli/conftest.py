"""Ways to call the command line: in this process, as a real command, or on a stand-in library."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import precscope
import precscope.analysis.warmup
from precscope.errors import WorkloadError
from precscope_cli.main import cli
from precscope_cli.render import Rendered, RenderJob

ROOT = Path(__file__).parents[2]

TINY_MODEL = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

def batches():
    for _ in range(8):
        yield torch.randn(16, 4), torch.randint(2, (16,))

def loss(model, batch):
    x, y = batch
    return torch.nn.functional.cross_entropy(model(x), y)
"""

Invoke = Callable[..., Result]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a model file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY_MODEL)
    return tmp_path


@pytest.fixture
def invoke() -> Invoke:
    """Call the command line in this process."""

    def call(*args: str) -> Result:
        return CliRunner().invoke(cli, args)

    return call


def environment() -> dict[str, str]:
    """This environment, with the checkout importable as an installed package would be."""
    paths = [str(ROOT / part) for part in (".", "cli", "reports")]
    plain = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "FORCE_COLOR", "NO_COLOR"}}
    return plain | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def run_command(*args: str, cwd: Path, module: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ``precscope ARGS`` or ``python -m precscope ARGS``, its streams piped."""
    script = ["-c", "import sys; del sys.path[0]; from precscope_cli.main import main; main()"]
    return subprocess.run(
        [sys.executable, *(["-m", "precscope"] if module else script), *args],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment for processes started by a test."""
    return environment()


@pytest.fixture(scope="session")
def command() -> Command:
    """Run ``precscope ARGS`` as a process: ``command("doctor", cwd=folder)``."""
    return run_command


@dataclass
class StandIn:
    """A stand-in for the library and for rendering, to see how the command line calls them.

    Attributes:
        calls: name, settings and command line of each call.
        jobs: what was to be rendered.
        failure: raised in the middle of an analysis.
        writes: whether the analysis leaves a Recording.
        records_nothing: whether that Recording is empty.
    """

    calls: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    jobs: list[RenderJob] = field(default_factory=list)
    failure: BaseException | None = None
    writes: bool = True
    records_nothing: bool = False

    def render(self, job: RenderJob) -> Rendered:
        self.jobs.append(job)
        if self.records_nothing:
            return Rendered("", is_empty=True)
        for path in filter(None, (job.html, *job.json)):
            Path(path).write_text("rendered")
        return Rendered(f"<{job.show}>\n")

    def module(self) -> types.ModuleType:
        module = types.ModuleType("precscope.analysis")
        entries = {name: self._entry(name) for name in ("analyze", "train_only")}
        vars(module).update(AnalysisOptions=dict, **entries)
        return module

    def _entry(self, name: str) -> Callable[..., None]:
        def call(
            workload: object, path: Path, options: dict[str, Any], command: str, progress: Any
        ) -> None:
            self.calls.append((name, options, command))
            progress.phase("observe", 2)
            progress.advance(1, "loss 1")
            if self.writes:
                path.write_text("recorded")
            if self.failure:
                raise self.failure

        return call


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, here: Path) -> StandIn:
    """Put the stand-in where the command line looks for the library."""
    stand_in = StandIn()
    workload = types.ModuleType("precscope.workload")
    # The rest of the room, reading a file's names above all, stays the real one.
    vars(workload).update(
        load_workload=_load, __path__=importlib.import_module("precscope.workload").__path__
    )
    for name, module in (("analysis", stand_in.module()), ("workload", workload)):
        monkeypatch.setitem(sys.modules, f"precscope.{name}", module)
        monkeypatch.setattr(precscope, name, module, raising=False)
    monkeypatch.setattr("precscope_cli.run.render_fresh", stand_in.render)
    return stand_in


def _load(path: Path) -> Path:
    if not path.exists():
        raise WorkloadError(f"no such file: {path}")
    return path
