"""What ``analyze`` and ``train`` have in common: prepare, run, render, and survive a failure."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from precscope.errors import PrecscopeError, RecordingError, UsageError
from precscope.script import Script
from precscope_cli.application import INTERRUPTED
from precscope_cli.fresh import render_fresh
from precscope_cli.next_commands import Commands
from precscope_cli.options import Request
from precscope_cli.output import (
    PAGE,
    RECIPE,
    RECORDING,
    RESULT,
    check_apart,
    check_writable_file,
    claim_folder,
    create_folder,
    drop_folder,
)
from precscope_cli.progress import Display, display_for
from precscope_cli.render import RenderJob, Shown
from precscope_cli.script import display_beside_script, longer_command, record_script
from precscope_cli.streams import look_of, put, stdout_kept_free, tell

Entry = Literal["analyze", "train_only", "scale_sweep"]
"""The function of the library behind a command."""


STEPS = {"steps": 60, "recipe_steps": 100}
"""Settings that count steps, observed and trained, with their defaults."""


@dataclass(frozen=True, slots=True)
class Results:
    """The files of a run, in one folder."""

    folder: Path

    @property
    def recording(self) -> Path:
        """The run file."""
        return self.folder / RECORDING

    @property
    def page(self) -> Path:
        """The HTML report."""
        return self.folder / PAGE

    @property
    def result(self) -> Path:
        """The JSON result."""
        return self.folder / RESULT

    @property
    def recipe(self) -> Path:
        """The advised recipe."""
        return self.folder / RECIPE


class _InUseError(UsageError):
    """The Recording in the folder is another run's, which goes on: nothing of it is ours."""


def run(request: Request, entry: Entry, command: str, script: Script | None = None) -> None:
    """Run the library's ``entry`` on the model file, or a script, and render what was recorded.

    Raises:
        PrecscopeError: anything that the user can mend.
        click.exceptions.Exit: interrupted, after saying where the Recording is; or a script's
            own exit code.
    """
    name = script.name if script else request.file.stem
    copy = None if request.json in {None, "-"} else Path(str(request.json))
    if copy:
        check_writable_file(copy)
        _check_copy(copy, request)
    results = Results(claim_folder(request.output, name, time.localtime()))
    try:
        shown = display_beside_script if script else display_for
        with shown(request.quiet) as display, _same_path(), _free_stdout(request):
            code = _record(request, entry, results, command, display, script)
            if code and not results.recording.exists():
                drop_folder(results.folder)
                raise click.exceptions.Exit(code)
            display.phase("render", None)
            rendered = render_fresh(render_job(request, results, copy, entry, script))
    except KeyboardInterrupt:
        _salvage(results)
        tell("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except _InUseError:
        raise
    except BaseException:
        _salvage(results)
        raise
    put(rendered.text)
    if code:
        raise click.exceptions.Exit(code)


def _check_copy(copy: Path, request: Request) -> None:
    check_apart(copy, (request.file, *request.settings.get("recipe_files", ())), "read by this run")
    if request.output:
        own = Results(request.output)
        check_apart(copy, (own.recording, own.page, own.recipe), "a file of the run itself")


def _record(
    request: Request,
    entry: Entry,
    results: Results,
    command: str,
    display: Display,
    script: Script | None,
) -> int:
    if script:
        return record_script(script, request, results.recording, command, display)
    display.phase("load", None)
    from precscope import analysis
    from precscope.workload import load_workload

    settings = analysis.SweepOptions if entry == "scale_sweep" else analysis.AnalysisOptions
    # First of all: what was asked for amiss is told before the user's file has run.
    options: Any = settings(**request.settings)
    _warm_up()
    workload = load_workload(request.file)
    create_folder(results.folder)
    record: Callable[..., object] = getattr(analysis, entry)
    try:
        record(workload, results.recording, options, command, display)
    except RecordingError as error:
        if isinstance(error.__context__, FileExistsError):
            raise _InUseError(
                f"{_short(results.folder)} is another run's: name a new --output"
            ) from None
        raise
    return 0


def _warm_up() -> None:
    """Import what PyTorch and numba import on first use, before the user's files can."""
    import torch

    from precscope.analysis.warmup import load_compiled_code

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    load_compiled_code()


def render_job(
    request: Request, results: Results, copy: Path | None, entry: Entry, script: Script | None
) -> RenderJob:
    """What is rendered of the Recording of a run, and where to."""
    advised = entry == "analyze"
    files = {PAGE: results.page, RESULT: results.result, RECORDING: results.recording}
    files |= {RECIPE: results.recipe} if advised else {}
    files |= {"JSON copy": copy} if copy else {}
    return RenderJob(
        recordings=(str(results.recording),),
        html=str(results.page),
        json=tuple(str(path) for path in (results.result, copy) if path),
        show=_shown(request),
        look=look_of(sys.stdout),
        files={what: _short(path) for what, path in files.items()},
        next_commands=_next_commands(request, results, entry, script),
        model_file=None if script or entry == "scale_sweep" else _commands(request),
        recipe=str(results.recipe) if advised else None,
    )


def _shown(request: Request) -> Shown:
    if request.json == "-":
        return "json"
    return "nothing" if request.quiet else "report"


def _next_commands(
    request: Request, results: Results, entry: Entry, script: Script | None
) -> tuple[str, ...]:
    again = shlex.join(["precscope", "report", _short(results.recording)])
    if script:
        longer_look = longer_command(script, int(request.settings.get("steps", 60)))
        return (longer_look, f"{again}  # this report again")
    commands = _commands(request)
    first = {"scale_sweep": commands.which_scale, "train_only": commands.what_to_set}
    return (first.get(entry, commands.train_longer)(), f"{again}  # this report again")


def _commands(request: Request) -> Commands:
    steps = (int(request.settings.get(name, default)) for name, default in STEPS.items())
    return Commands(str(request.file), *steps)


def _free_stdout(request: Request) -> AbstractContextManager[None]:
    """With ``--json -`` nothing but the result is on stdout, whatever the file or script prints."""
    return stdout_kept_free() if request.json == "-" else nullcontext()


def _salvage(results: Results) -> None:
    """Render what a run that did not finish left, and say where it is."""
    if not results.recording.exists():
        drop_folder(results.folder)
        return
    job = RenderJob(
        recordings=(str(results.recording),),
        html=str(results.page),
        json=(str(results.result),),
        show="nothing",
        look=look_of(sys.stdout),
    )
    try:
        rendered = render_fresh(job)
    except (PrecscopeError, KeyboardInterrupt) as error:
        _tell_kept(results, f"not rendered: {error}" if str(error) else "not rendered")
        return
    if rendered.is_empty:
        drop_folder(results.folder)
    else:
        _tell_kept(results, f"report so far: {_short(results.page)}")


def _tell_kept(results: Results, rendered: str) -> None:
    recording = _short(results.recording)
    tell(f"recorded so far: {recording} ({rendered})")
    tell(f"show it with: {shlex.join(['precscope', 'report', recording])}")


def _short(path: Path) -> str:
    """The path as somebody standing here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


@contextmanager
def _same_path() -> Iterator[None]:
    """Undo what the model file did to ``sys.path``."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
