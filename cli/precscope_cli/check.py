"""``precscope check``: hold a model file, a script or a run against rules; the gate of a CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from precscope.errors import UsageError
from precscope_cli.application import Invocation
from precscope_cli.check_options import CHECK_OPTIONS, EXAMPLES, FOR_TRAINING, spelled
from precscope_cli.check_reporting import report, reporting_of
from precscope_cli.options import (
    OBSERVING_OPTIONS,
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
from precscope_cli.output import RECORDING, RESULT, check_apart
from precscope_cli.script import MODEL_FILE_ONLY, SCRIPT_OPTIONS, script_from
from precscope_cli.settings import Settings, find_settings, load_settings
from precscope_cli.streams import tell

if TYPE_CHECKING:
    from precscope.rules import Rule

OUTPUT, SEED, DEVICE, *_ = RUN_OPTIONS


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
    reporting = reporting_of(given, settings, None if from_run or given["is_module"] else first)
    if reporting.junit:
        _check_junit(reporting.junit, targets, settings)
    if from_run:
        result = _existing(targets, given)
    else:
        result = _analyzed(invocation, targets, given, settings, rules)
    from precscope.rules import judge_all, waive

    outcome = waive(judge_all(rules, result), waivers)
    code = report(outcome, result, reporting)
    if code:
        raise click.exceptions.Exit(code)


def _check_junit(junit: Path, targets: tuple[str, ...], settings: Settings) -> None:
    runs = [Path(target) for target in targets if target]
    sources = [file for run in runs for file in (run, run / RECORDING, run / RESULT)]
    check_apart(junit, sources, "what is checked")
    check_apart(junit, filter(None, (settings.path,)), "where the rules are")


def _settings(config: Path | None, file: Path | None) -> Settings:
    if config is not None:
        return load_settings(config)
    folders = [file.parent] if file is not None else []
    return find_settings(*folders, Path.cwd())


def _existing(targets: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    from precscope_cli.check_source import result_of_runs

    for name, value in given.items():
        if name != "quiet" and value not in (None, False):
            what = f"{spelled(name)} is for model files and scripts"
            raise UsageError(f"{what}: {targets[0]} is a run")
    return result_of_runs(tuple(Path(target) for target in targets))


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
            raise UsageError(f"{spelled(given[0])} is about training recipes: add --train")
    request.settings.setdefault("recipes", recipes_of(rules))
