"""Where the result that is checked comes from: a run that exists, or one that is made first."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from precscope.errors import RecordingError, UsageError
from precscope_cli.options import Request
from precscope_cli.output import RECORDING, RESULT, claim_folder
from precscope_cli.sides import open_recordings
from precscope_cli.streams import tell

if TYPE_CHECKING:
    from precscope.script import Script

Result = dict[str, Any]

SQLITE = b"SQLite format 3\x00"
SCHEMA = 1
SECTIONS = (
    "coverage",
    "findings",
    "loss_scale",
    "master_weights",
    "accumulation",
    "sites",
    "runs",
    "parity",
    "timing",
)
"""Keys without which a file is no result."""


def is_run(path: Path) -> bool:
    """Whether ``path`` is what a run left: its folder, a Recording or a result.

    Anything else is a model file or a training script, and said to be missing by whoever opens it.
    """
    if path.is_dir() or path.suffix in (".precscope", ".json"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def result_of_runs(paths: tuple[Path, ...]) -> Result:
    """The result of a run folder, a ``result.json``, or Recordings, merged if there are several.

    Raises:
        UsageError: several paths of which one is no Recording.
        RecordingError: one cannot be read, is none, or holds nothing yet.
    """
    files = tuple(_file_of(path) for path in paths)
    results = [path for path in files if path.suffix == ".json"]
    if results and len(files) > 1:
        raise UsageError(f"{results[0]} is a result: only Recordings can be merged")
    return load_result(results[0]) if results else result_of_recordings(files)


def result_of_recordings(paths: tuple[Path, ...]) -> Result:
    """The result of Recordings, several of which are merged as ranks of one training.

    Raises:
        RecordingError: one cannot be read, or they hold nothing yet.
    """
    from precscope.result import build_result

    result = build_result(open_recordings(paths))
    if not (result["coverage"]["observed_steps"] or result["runs"]):
        raise RecordingError(f"{paths[0]} holds no observed step and no training run yet")
    return result


def load_result(path: Path) -> Result:
    """The result in a ``result.json``.

    Raises:
        RecordingError: it cannot be read, is no result, or is of another schema.
    """
    try:
        result = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path} is not JSON: {error}") from error
    return checked_result(result, str(path))


def checked_result(result: Any, where: str) -> Result:
    """``result``, if it is a result of the schema that this version reads.

    Raises:
        RecordingError: it is not, or a section is missing.
    """
    if not isinstance(result, dict) or "schema" not in result:
        raise RecordingError(
            f"{where} is no result of precscope: name a result.json or a Recording"
        )
    if result["schema"] != SCHEMA:
        raise RecordingError(
            f"{where} is of schema {result['schema']!r}: this version reads {SCHEMA}"
        )
    missing = [key for key in SECTIONS if not isinstance(result.get(key), (dict, list))]
    if missing:
        raise RecordingError(f"{where} is a damaged result: it has no {missing[0]}")
    return result


def result_of_file(request: Request, script: Script | None, command: str) -> tuple[Result, Path]:
    """Analyze a model file or a script; its result, and the folder with everything it wrote.

    Raises:
        PrecscopeError: anything that the user can mend.
        click.exceptions.Exit: interrupted, or a script's own exit code.
    """
    from precscope_cli.run import run

    name = script.name if script else request.file.stem
    folder = claim_folder(request.output, name, time.localtime())
    if not request.quiet:
        tell(f"precscope: analyze {script.target if script else request.file} into {folder}")
    # The report of the analysis would bury the lines of the gate: it is in the folder.
    try:
        run(replace(request, output=folder, json=None, quiet=True), "analyze", command, script)
    except click.exceptions.Exit:
        tell("precscope: the run did not finish, nothing was checked")
        raise
    return load_result(folder / RESULT), folder


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    recording, result = path / RECORDING, path / RESULT
    return result if result.is_file() and not recording.is_file() else recording
