"""``precscope analyze train.py -- ARGS``: what differs when FILE is a training script."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from precscope_cli.options import Option, Request
from precscope_cli.progress import Display, Lines

if TYPE_CHECKING:
    from precscope.script import Script

MODEL_FILE_ONLY = {"device": "--device", "recipe_files": "--recipe"}
"""Options that a script decides by itself, or that need a fresh model per run."""

SCRIPT_OPTIONS: tuple[Option, ...] = (
    click.option("is_module", "-m", is_flag=True, help="FILE is a module to run, as in python -m."),
    click.option("--keep-going", is_flag=True, help="Let a script run on after the steps."),
    click.option("--keep-compile", is_flag=True, help="Leave a script's torch.compile on."),
)

arguments_argument = click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS...]"
)


def script_from(given: dict[str, Any], request: Request) -> Script | None:
    """The script that is meant, None if FILE is a model file.

    Raises:
        click.UsageError: options or arguments that do not go with what FILE is.
        WorkloadError: FILE cannot be read.
    """
    arguments, is_module = given["arguments"], given["is_module"]
    if not is_module:
        from precscope.script.target import is_script

        if not is_script(request.file):
            _refuse_for_model_file(given, request.file)
            return None
    for setting, option in MODEL_FILE_ONLY.items():
        if setting in request.settings:
            raise _refusal(f"{option} is for model files: {request.file} is a script")
    request.settings["keep_going"] = given["keep_going"]
    request.settings["keep_compile"] = given["keep_compile"]
    from precscope.script import Script

    return Script(str(request.file), tuple(arguments), is_module)


def record_script(
    script: Script, request: Request, recording: Path, command: str, display: Display
) -> int:
    """Analyze the script into ``recording``; returns its exit code."""
    from precscope.analysis.script_flow import ScriptOptions, analyze_script

    # What the script prints must not end up in the JSON that is asked for on stdout.
    stdout = sys.stderr.fileno() if request.json == "-" else None
    options = ScriptOptions(**request.settings, script_stdout=stdout)
    recording.parent.mkdir(parents=True, exist_ok=True)
    return analyze_script(script, recording, options, command, display)


def display_beside_script(quiet: bool) -> Display:
    """Lines only: a live display and what the script prints would draw over each other."""
    return Display() if quiet else Lines()


def longer_command(script: Script, steps: int) -> str:
    """The command that observes ten times as long."""
    kind = ["-m"] if script.is_module else []
    given = ["--", *script.arguments] if script.arguments else []
    words = ["precscope", "analyze", *kind, script.target, "--steps", str(10 * steps), *given]
    return f"{shlex.join(words)}  # observe longer"


def _refuse_for_model_file(given: dict[str, Any], file: Path) -> None:
    if given["arguments"]:
        raise _refusal(f"{file} is a model file and takes no arguments: {given['arguments'][0]}")
    for name in ("keep_going", "keep_compile"):
        if given[name]:
            raise _refusal(f"--{name.replace('_', '-')} is for scripts: {file} is a model file")


def _refusal(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))
