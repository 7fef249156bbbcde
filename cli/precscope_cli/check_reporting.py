"""How the outcome of ``precscope check`` is told, and its exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precscope_cli.output import check_writable_file, write_text
from precscope_cli.settings import Settings
from precscope_cli.streams import put, tell

if TYPE_CHECKING:
    from precscope.rules import Outcome

HIT = 10
"""Exit code: a rule was hit."""

NOT_JUDGED = 1
"""Exit code: none was hit, and one could not be judged."""


@dataclass(frozen=True, slots=True)
class Reporting:
    """How the outcome is told, and whether what is missing counts.

    Attributes:
        quiet: no summary where nothing was hit.
        github: also annotate for GitHub Actions.
        junit: where JUnit XML is written; None for nowhere.
        allow_missing: a rule about what the run does not have is no problem.
        file: what annotations point at; None for a run.
    """

    quiet: bool
    github: bool
    junit: Path | None
    allow_missing: bool
    file: Path | None


def reporting_of(given: dict[str, Any], settings: Settings, file: Path | None) -> Reporting:
    """What the options say, and the settings where they say nothing.

    Takes ``junit``, ``github`` and ``allow_missing`` out of ``given``.

    Raises:
        PrecscopeError: the JUnit file cannot be written.
    """
    from precscope_cli.check_github import is_github

    junit, github, allow_missing = (given.pop(k) for k in ("junit", "github", "allow_missing"))
    junit = junit if junit is not None else settings.junit
    github = github if github is not None else settings.github
    if junit:
        check_writable_file(junit)
    return Reporting(
        quiet=given["quiet"],
        github=is_github() if github is None else github,
        junit=junit,
        allow_missing=settings.allow_missing if allow_missing is None else allow_missing,
        file=file,
    )


def report(outcome: Outcome, result: dict[str, Any], reporting: Reporting) -> int:
    """Print the outcome, write what was asked for, and return the exit code."""
    from precscope_cli.check_github import defused, github_annotations
    from precscope_cli.check_junit import junit_xml
    from precscope_cli.check_lines import hit_lines, idle_lines, problem_lines, summary_line

    summary = [] if reporting.quiet and not outcome.hits else [summary_line(outcome, result)]
    for line in (*problem_lines(outcome), *idle_lines(outcome)):
        tell(defused(line))
    notes = github_annotations(outcome, reporting.file) if reporting.github else []
    lines = [*map(defused, hit_lines(outcome)), *notes, *map(defused, summary)]
    put("".join(f"{line}\n" for line in lines))
    if reporting.junit:
        write_text(reporting.junit, junit_xml(outcome, result))
    return _exit_code(outcome, reporting.allow_missing)


def _exit_code(outcome: Outcome, allow_missing: bool) -> int:
    if outcome.hits:
        return HIT
    if not outcome.problems:
        return 0
    nothing_judged = len(outcome.problems) == len(outcome.judgements)
    return 0 if allow_missing and not nothing_judged else NOT_JUDGED
