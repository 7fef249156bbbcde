"""Where results go: the folder of a run, and checks made before work that takes minutes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from precscope.errors import PrecscopeError, UsageError

RECORDING = "run.precscope"
PAGE = "report.html"
RESULT = "result.json"
RECIPE = "recipe.json"
RUNS = Path("precscope-runs")


def choose_folder(output: Path | None, name: str, now: time.struct_time) -> Path:
    """The folder for a run: the one asked for, or ``precscope-runs/<name>-<time>``.

    Raises:
        UsageError: the folder asked for holds files already, or is a file.
        PrecscopeError: it could not be written.
    """
    folder = output or _unused(RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S', now)}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file: name a folder")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"--output {folder} is not empty: name a new folder")
    except OSError as error:
        raise PrecscopeError(f"cannot use --output {folder}: {_why(error)}") from error
    _check_writable(folder, f"cannot write to --output {folder}")
    return folder


def claim_folder(output: Path | None, name: str, now: time.struct_time) -> Path:
    """Choose the folder for a run and make it, a new one for each run that asks for none.

    Raises:
        UsageError: the folder asked for holds files already, or is a file.
        PrecscopeError: it cannot be made.
    """
    while True:
        folder = choose_folder(output, name, now)
        try:
            folder.mkdir(parents=True, exist_ok=output is not None)
        except FileExistsError:  # another run has made it since it was chosen
            continue
        except OSError as error:
            raise PrecscopeError(f"cannot write to --output {folder}: {_why(error)}") from error
        return folder


def create_folder(folder: Path) -> None:
    """Make the folder and its parents.

    Raises:
        PrecscopeError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrecscopeError(f"cannot write to --output {folder}: {_why(error)}") from error


def check_writable_file(path: Path) -> None:
    """Find out now whether ``path`` can be written later.

    Raises:
        UsageError: it is a folder.
        PrecscopeError: its folder does not exist or is not writable.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file")
    if str(path) == "-":
        raise UsageError("only --json can go to stdout: name a file in place of '-'")
    if not path.parent.is_dir():
        raise PrecscopeError(f"cannot write {path}: there is no folder {path.parent}")
    _check_writable(path, f"cannot write {path}")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        PrecscopeError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise PrecscopeError(f"cannot write {path}: {_why(error)}") from error


def drop_folder(folder: Path) -> None:
    """Remove the folder of a run in which nothing was recorded."""
    for name in (RECORDING, f"{RECORDING}-wal", f"{RECORDING}-shm", f"{RECORDING}-journal"):
        (folder / name).unlink(missing_ok=True)
    ours = (folder, RUNS) if folder.parent == RUNS else (folder,)
    with suppress(OSError):
        for path in ours:
            path.rmdir()


def _unused(folder: Path) -> Path:
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _check_writable(path: Path, complaint: str) -> None:
    """Ask about the nearest thing above ``path`` that exists, without creating anything."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if there != path and not there.is_dir():
        raise PrecscopeError(f"{complaint}: {there} is not a folder")
    if not os.access(there, os.W_OK):
        raise PrecscopeError(f"{complaint}: no permission to write to {there}")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
