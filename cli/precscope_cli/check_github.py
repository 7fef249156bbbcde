"""Annotations for GitHub Actions, and lines that cannot be taken for its commands.

    ::error file=model.py,title=flushed_l1 > 1e-3::encoder.0 (activation): 0.02 of sum abs(x)

https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from precscope.rules import Outcome
from precscope_cli.check_lines import idle_lines
from precscope_cli.streams import one_line

Level = Literal["error", "warning"]

SHOWN = 10
"""Annotations of one level that GitHub shows for a step; it drops the others without a word."""


def is_github() -> bool:
    """Whether this process runs in a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def github_annotations(outcome: Outcome, file: Path | None) -> list[str]:
    """An error for each hit and each rule that was not judged, a warning for each unused waiver.

    Where there are more errors than GitHub shows, the last one says how many are left.
    """
    errors = [(hit.rule, hit.message) for hit in outcome.hits]
    errors += [(j.rule.text, f"not judged: {j.problem}") for j in outcome.problems]
    if len(errors) > SHOWN:
        left = len(errors) - SHOWN + 1
        errors[SHOWN - 1 :] = [("precscope check", f"and {left} more, see the log of this step")]
    idle = [("precscope check", line) for line in idle_lines(outcome)]
    return [
        *(annotation("error", title, message, file) for title, message in errors),
        *(annotation("warning", title, message, file) for title, message in idle[:SHOWN]),
    ]


def annotation(level: Level, title: str, message: str, file: Path | None = None) -> str:
    """One workflow command on one line, whatever the texts hold."""
    properties = [f"file={escape_property(_relative(file))}"] if file else []
    properties.append(f"title={escape_property(one_line(title))}")
    return defused(f"::{level} {','.join(properties)}::{escape_data(one_line(message))}")


def escape_data(text: str) -> str:
    """The text of a command: ``%``, carriage return and newline escaped."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """The value of a property of a command: colon and comma escaped as well."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def defused(line: str) -> str:
    """``line`` without the old form of a command, ``##[name]``, which is obeyed anywhere in it."""
    return line.replace("##[", "## [")


def _relative(file: Path) -> str:
    workspace = os.environ.get("GITHUB_WORKSPACE")
    absolute = file.absolute()
    if workspace and absolute.is_relative_to(workspace):
        return absolute.relative_to(workspace).as_posix()
    return file.as_posix()
