"""What ``analyze`` and ``train`` have in common: prepare, run, render, and survive a failure."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from precscope.errors import PrecscopeError
from precscope_cli.application import INTERRUPTED
from precscope_cli.fresh import render_fresh
from precscope_cli.options import Request
from precscope_cli.output import (
    PAGE,
    RECIPE,
    RECORDING,
    RESULT,
    check_writable_file,
    choose_folder,
    create_folder,
    drop_folder,
)
from precscope_cli.progress import Display, display_for
from precscope_cli.render import RenderJob, Shown
from precscope_cli.streams import look_of, put, tell

LONGER = 10
"""How many times more steps the command offered at the end trains for."""


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


def run(request: Request, entry: Literal["analyze", "train_only"], command: str) -> None:
    """Run the library's ``entry`` on the model file and render what it recorded.

    Raises:
        PrecscopeError: anything that the user can mend.
        click.exceptions.Exit: interrupted, after saying where the Recording is.
    """
    results = Results(choose_folder(request.output, request.file.stem, time.localtime()))
    copy = None if request.json in {None, "-"} else Path(str(request.json))
    if copy:
        check_writable_file(copy)
    try:
        with display_for(request.quiet) as display, _same_path():
            _record(request, entry, results, command, display)
            display.phase("render", None)
            rendered = render_fresh(_job(request, results, copy, advised=entry == "analyze"))
    except KeyboardInterrupt:
        _salvage(results)
        tell("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BaseException:
        _salvage(results)
        raise
    put(rendered.text)


def _record(
    request: Request,
    entry: Literal["analyze", "train_only"],
    results: Results,
    command: str,
    display: Display,
) -> None:
    display.phase("load", None)
    from precscope import analysis
    from precscope.workload import load_workload

    _warm_up()
    options = analysis.AnalysisOptions(**request.settings)
    workload = load_workload(request.file)
    create_folder(results.folder)
    record = analysis.analyze if entry == "analyze" else analysis.train_only
    record(workload, results.recording, options, command, display)


def _warm_up() -> None:
    """Import what PyTorch imports when the first optimizer is made, before the user's files can."""
    import torch

    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def _job(request: Request, results: Results, copy: Path | None, advised: bool) -> RenderJob:
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
        next_commands=_next_commands(request, results),
        recipe=str(results.recipe) if advised else None,
    )


def _shown(request: Request) -> Shown:
    if request.json == "-":
        return "json"
    return "nothing" if request.quiet else "report"


def _next_commands(request: Request, results: Results) -> tuple[str, ...]:
    steps = LONGER * int(request.settings.get("recipe_steps", 100))
    longer = ["precscope", "analyze", str(request.file), "--recipes", "fp32,advised"]
    return (
        f"{shlex.join([*longer, '--recipe-steps', str(steps)])}  # train longer with the advice",
        f"{shlex.join(['precscope', 'report', _short(results.recording)])}  # this report again",
    )


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
