"""``precscope check``: hold a model file, a script or a run against rules; the gate of a CI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from precscope.errors import UsageError
from precscope_cli.application import Invocation
from precscope_cli.options import (
    OBSERVING_OPTIONS,
    PATH,
    RUN_OPTIONS,
    Request,
    debug_option,
    options,
    quiet_option,
    recipe_file_option,
    recipe_steps_option,
    recipes_option,
    request_from,
    seeds_option,
)
from precscope_cli.output import check_writable_file, write_text
from precscope_cli.script import MODEL_FILE_ONLY, SCRIPT_OPTIONS, script_from
from precscope_cli.settings import Settings, find_settings, load_settings
from precscope_cli.streams import put, tell

if TYPE_CHECKING:
    from precscope.rules import Outcome, Rule

EXAMPLES = """\b
Examples:
  precscope check model.py --fail-on "flushed_l1 > 1e-3" --fail-on "loss_scale impossible"
  precscope check runs/first --fail-on "retention < 0.8" --fail-on "severity >= warning"
  precscope check model.py --train --fail-on "promise broken" --fail-on "skipped_share > 1%"
  precscope check run.precscope --fail-on 'flushed[bf16] @ "encoder.*" > 0'
  precscope check result.json --fail-on "overflow > 0" --junit precscope.xml
  precscope check model.py --waive 'flushed_l1 @ "embed*": sparse, checked by hand'
  precscope check train.py --fail-on "headroom_log2 < 2" -- --its-own args

\b
A rule says what must not happen:
  QUANTITY [ "[" WORDS "]" ] [ @ PATTERNS ] [ COMPARISON NUMBER | [is] [not] WORDS ]

\b
Exit codes: 0 nothing hit, 10 a rule was hit, 1 a rule could not be judged, 2 a wrong rule or
option. docs/check.md lists the quantities; rules, waivers and options may stand in
[tool.precscope] of pyproject.toml.
"""

HIT = 10
NOT_JUDGED = 1


@dataclass(frozen=True, slots=True)
class Reporting:
    """How the outcome is told, and whether what is missing counts."""

    quiet: bool
    github: bool
    junit: Path | None
    allow_missing: bool
    file: Path | None


OUTPUT, SEED, DEVICE, *_ = RUN_OPTIONS

SPELLED = {"is_module": "-m", "recipe_files": "--recipe"}
"""Options that are not called like their parameters."""

FOR_TRAINING = ("recipes", "recipe_files", "recipe_steps", "seeds")
"""Options that say nothing unless recipes are trained."""

CHECK_OPTIONS = (
    click.option(
        "fail_on",
        "--fail-on",
        multiple=True,
        metavar="RULE",
        help="What must not happen. May be repeated; replaces the rules of pyproject.toml.",
    ),
    click.option(
        "waive",
        "--waive",
        multiple=True,
        metavar="WHAT: REASON",
        help="Accept hits of a quantity, [@ PATTERN] for some places only. May be repeated.",
    ),
    click.option(
        "--allow-missing",
        is_flag=True,
        default=None,
        help="Let a rule be about something that the run does not have.",
    ),
    click.option("--junit", type=PATH, metavar="FILE", help="Also write JUnit XML."),
    click.option(
        "--github/--no-github",
        default=None,
        help="Annotate for GitHub Actions.  [default: in a GitHub workflow]",
    ),
    click.option(
        "--config",
        type=PATH,
        metavar="FILE",
        help="Where [tool.precscope] is.  [default: the nearest pyproject.toml]",
    ),
    click.option(
        "--train/--no-train",
        default=None,
        help="Also train FP32, the advised recipe and those that rules name.  [default: no]",
    ),
)


@click.command(short_help="Fail if a rule is hit: the gate for CI.", epilog=EXAMPLES)
@click.argument(
    "targets", nargs=-1, required=True, type=click.UNPROCESSED, metavar="FILE|RUN... [-- ARGS...]"
)
@options(
    *CHECK_OPTIONS,
    *OBSERVING_OPTIONS,
    recipes_option("fp32, advised and those that rules name"),
    recipe_file_option,
    recipe_steps_option(),
    seeds_option("the advised recipe"),
    *SCRIPT_OPTIONS,
    OUTPUT,
    SEED,
    DEVICE,
    quiet_option,
    debug_option,
)
@click.pass_obj
def check(invocation: Invocation, /, **given: Any) -> None:
    """Fail if a rule is hit: by what analyzing FILE shows, or by what RUN holds.

    FILE is a model file or a training script, which is analyzed first, without training a recipe
    unless --train is given. RUN is the folder of a run, its result.json, or a Recording; several
    Recordings are merged, as the ranks of one training. Prints one line per hit.
    """
    from precscope_cli.check_rules import chosen_rules, chosen_waivers
    from precscope_cli.check_source import is_run

    own = {key: given.pop(key) for key in ("fail_on", "waive", "config")}
    targets = tuple(given.pop("targets"))
    first = Path(targets[0])
    from_run = not given["is_module"] and is_run(first)
    settings = _settings(own["config"], None if from_run else first)
    rules = chosen_rules(own["fail_on"], settings)
    waivers = chosen_waivers(own["waive"], settings)
    reporting = _reporting(given, settings, None if from_run or given["is_module"] else first)
    if from_run:
        result = _existing(targets, given)
    else:
        result = _analyzed(invocation, targets, given, settings, rules)
    from precscope.rules import judge_all, waive

    outcome = waive(judge_all(rules, result), waivers)
    code = _report(outcome, result, reporting)
    if code:
        raise click.exceptions.Exit(code)


def _settings(config: Path | None, file: Path | None) -> Settings:
    if config is not None:
        return load_settings(config)
    folders = [file.parent] if file is not None else []
    return find_settings(*folders, Path.cwd())


def _reporting(given: dict[str, Any], settings: Settings, file: Path | None) -> Reporting:
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


def _existing(targets: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    from precscope_cli.check_source import result_of_runs

    for name, value in given.items():
        if name != "quiet" and value not in (None, False):
            what = f"{_spelled(name)} is for model files and scripts"
            raise UsageError(f"{what}: {targets[0]} is a run")
    return result_of_runs(tuple(Path(target) for target in targets))


def _spelled(parameter: str) -> str:
    return SPELLED.get(parameter, f"--{parameter.replace('_', '-')}")


def _analyzed(
    invocation: Invocation,
    targets: tuple[str, ...],
    given: dict[str, Any],
    settings: Settings,
    rules: tuple[Rule, ...],
) -> dict[str, Any]:
    from precscope_cli.check_source import result_of_file

    own = {key: given.pop(key) for key in ("is_module", "keep_going", "keep_compile")}
    request = request_from(given | {"file": Path(targets[0]), "json": None})
    script = script_from(own | {"arguments": targets[1:]}, request)
    _complete(request, settings, rules, is_script=script is not None)
    result, folder = result_of_file(request, script, invocation.command)
    if not request.quiet:
        tell(f"precscope: report in {folder}")
    return result


def _complete(
    request: Request, settings: Settings, rules: tuple[Rule, ...], is_script: bool
) -> None:
    """Fill in what was not given: from the settings, then from what the rules need."""
    from precscope_cli.check_rules import check_trained, recipes_of

    given = [name for name in FOR_TRAINING if name in request.settings]
    for key, value in settings.options.items():
        if not (is_script and key in MODEL_FILE_ONLY):
            request.settings.setdefault(key, tuple(value) if isinstance(value, list) else value)
    if not request.settings.setdefault("train", False):
        check_trained(rules)
        if given:
            raise UsageError(f"{_spelled(given[0])} is about training recipes: add --train")
    request.settings.setdefault("recipes", recipes_of(rules))


def _report(outcome: Outcome, result: dict[str, Any], reporting: Reporting) -> int:
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
