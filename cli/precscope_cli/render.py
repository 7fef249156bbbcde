"""From Recordings to the page, the JSON and the text; what ``fresh`` runs in its own process."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from precscope.errors import PrecscopeError
from precscope_cli.next_commands import Commands
from precscope_cli.output import write_text
from precscope_cli.paper import printed
from precscope_cli.sides import made_from, open_recordings
from precscope_cli.streams import Look

Shown = Literal["report", "json", "nothing"]


@dataclass(frozen=True, slots=True)
class RenderJob:
    """What to render. Plain values only: it travels to another process as JSON.

    Attributes:
        recordings: paths of Recordings; several are merged.
        html: where to write the page, None for no page.
        json: where to write the result.
        recipe: where to write the advised recipe, None for nowhere.
        show: what the text for stdout is.
        look: how that text may look.
        files: files to name at the end of the report, by what they are.
        next_commands: commands to offer at the end of the report, the first of them if no
            promise was broken.
        model_file: the commands about the model file that was run; None if it was a script, or
            is not known.
    """

    recordings: tuple[str, ...]
    html: str | None
    json: tuple[str, ...]
    show: Shown
    look: Look
    files: dict[str, str] = field(default_factory=dict)
    next_commands: tuple[str, ...] = ()
    recipe: str | None = None
    model_file: Commands | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What came of a job.

    Attributes:
        text: for stdout.
        is_empty: whether the Recordings hold no observed step and no training run. Then there
            is nothing to render, and no file was written.
    """

    text: str
    is_empty: bool = False


def render(job: RenderJob) -> Rendered:
    """Open the Recordings, write the files, return the text.

    Raises:
        RecordingError: a Recording cannot be read, or holds documents that cannot be used.
        PrecscopeError: a file cannot be written.
    """
    return made_from(Path(job.recordings[0]), lambda: _rendered(job))


def _rendered(job: RenderJob) -> Rendered:
    result = _result(job.recordings)
    if not (result["coverage"]["observed_steps"] or result["runs"] or result["scale_sweep"]):
        return Rendered("", is_empty=True)
    encoded = json.dumps(result, allow_nan=False, separators=(",", ":")) + "\n"
    for path in job.json:
        write_text(Path(path), encoded)
    if job.recipe:
        write_text(Path(job.recipe), _recipe(result))
    if job.html:
        from precscope_reports import html

        html.write(result, Path(job.html))
    return Rendered(_shown(result, encoded, job))


def child_main() -> None:
    """Body of the fresh process: a job on stdin, a ``Rendered`` or an error line on stdout."""
    reply, sys.stdout = sys.stdout, sys.stderr
    given: dict[str, Any] = json.load(sys.stdin)
    subject = given["model_file"]
    given |= {"look": Look(**given["look"]), "model_file": subject and Commands(**subject)}
    job = RenderJob(**given)
    try:
        answer = asdict(render(job))
    except PrecscopeError as error:
        answer = {"error": str(error)}
    json.dump(answer, reply)
    reply.flush()


def _result(recordings: tuple[str, ...]) -> dict[str, Any]:
    from precscope.result import build_result

    return build_result(open_recordings([Path(path) for path in recordings]))


def _recipe(result: dict[str, Any]) -> str:
    """The advised recipe as ``Recipe.load`` reads it."""
    fields = {key: value for key, value in result["recipe"].items() if key != "code"}
    return json.dumps(fields, indent=2) + "\n"


def _shown(result: dict[str, Any], encoded: str, job: RenderJob) -> str:
    if job.show == "json":
        return encoded
    return _report(result, job) if job.show == "report" else ""


def _next_commands(result: dict[str, Any], job: RenderJob) -> tuple[str, ...]:
    others = job.model_file.after_breach(result) if job.model_file else ()
    return (*others, *job.next_commands[1:]) if others else job.next_commands


def _report(result: dict[str, Any], job: RenderJob) -> str:
    from precscope_reports import terminal

    files = {what: Path(path) for what, path in job.files.items()}
    following = _next_commands(result, job)
    return printed(
        job.look, lambda console: terminal.print_report(result, console, files, following)
    )
