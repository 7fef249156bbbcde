"""Where results go: the folder of a run, and checks made before work that takes minutes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from precscope.errors import PrecscopeError, UsageError
from precscope_cli.folder_lock import lock_folder

RECORDING = "run.precscope"
PAGE = "report.html"
RESULT = "result.json"
RECIPE = "recipe.json"
RUNS = Path("precscope-runs")

NAME_CHARACTERS = 50
"""Of a model file's name in a folder's: with the time they fit into 255 bytes of UTF-8."""


def choose_folder(output: Path | None, name: str, now: time.struct_time) -> Path:
    """The folder for a run: the one asked for, or ``precscope-runs/<name>-<time>``.

    Raises:
        UsageError: the folder asked for holds files already, or is a file.
        PrecscopeError: it could not be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", now)
    folder = output or _unused(RUNS / f"{name[:NAME_CHARACTERS]}-{stamp}")
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
            is_ours = output is None or lock_folder(folder)
        except FileExistsError:  # another run has made it since it was chosen
            continue
        except OSError as error:
            raise PrecscopeError(f"cannot write to --output {folder}: {_why(error)}") from error
        if not is_ours:
            raise UsageError(f"--output {folder} is another run's: name a new folder")
        # What another run has done to it before it was ours.
        return folder if output is None else choose_folder(folder, name, now)


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


def check_apart(path: Path, others: Iterable[Path], what: str) -> None:
    """Find out now whether writing ``path`` would destroy one of ``others``.

    Raises:
        UsageError: it would.
    """
    if any(_is_same(path, other) for other in others):
        raise UsageError(f"{path} is {what}: choose another file to write")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        PrecscopeError: it cannot be written.
    """
    from precscope_reports.files import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise PrecscopeError(f"cannot write {path}: {_why(error)}") from error


def drop_folder(folder: Path) -> None:
    """Remove the folder of a run in which nothing was recorded."""
    for name in (RECORDING, f"{RECORDING}-wal", f"{RECORDING}-shm", f"{RECORDING}-journal"):
        (folder / name).unlink(missing_ok=True)
    drop_empty((folder, RUNS) if folder.parent == RUNS else (folder,))


def drop_empty(folders: Iterable[Path]) -> None:
    """Remove these folders, the innermost first, up to one with something in it."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _is_same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


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
