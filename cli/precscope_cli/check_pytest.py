"""What the fixture ``precscope_check`` does; imported when a test first asks for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.errors import UsageError
from precscope.recording import Recording
from precscope.result import build_result
from precscope.rules import Outcome, Rule, Waiver, judge_all, waive
from precscope.workload import Workload, load_workload
from precscope.workload.loading import default_optimizer
from precscope.workload.randomness import capture, restore
from precscope_cli.check_lines import hit_lines, idle_lines, problem_lines, summary_line
from precscope_cli.check_rules import check_trained, chosen_rules, chosen_waivers, recipes_of
from precscope_cli.check_source import (
    Result,
    checked_result,
    is_run,
    result_of_recordings,
    result_of_runs,
)
from precscope_cli.progress import Display
from precscope_cli.settings import Settings, find_settings

Subject = (
    torch.nn.Module
    | Callable[[], torch.nn.Module]
    | Recording
    | Mapping[str, Any]
    | str
    | Path
    | Sequence[str | Path]
)
"""A model or what builds one; or a run: a Recording, a result, paths of runs or of a model file."""

Batches = Iterable[Any] | Callable[[], Iterable[Any]]
Loss = Callable[[torch.nn.Module, Any], torch.Tensor]


class PrecscopeCheck:
    """Holds models and runs against rules, with the settings of the project of one test.

    Attributes:
        settings: from ``pyproject.toml`` and the ini file, which wins.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        found = find_settings(request.path.parent, request.config.rootpath)
        self.settings = _with_ini(found, request.config)
        self._waived = tuple(request.config.getini("precscope_waive"))

    def __call__(
        self,
        subject: Subject,
        batches: Batches | None = None,
        loss: Loss | None = None,
        *,
        rules: Sequence[str] = (),
        waivers: Sequence[str] = (),
        optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] | None = None,
        evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        allow_missing: bool | None = None,
        **options: Any,
    ) -> Result:
        """Check, and return the result (``docs/json.md``).

        Args:
            subject: a model, which is copied and left as it is, or a function that builds one;
                or a run: a Recording, a result, the path of a run folder, a Recording, a
                ``result.json`` or a model file, or several Recordings that are merged.
            batches: for a model: something that can be iterated again and again, or a function
                that returns an iterable.
            loss: for a model: ``loss(model, batch)``, a scalar.
            rules: those of the settings if empty.
            waivers: ``WHAT [@ PATTERN]: REASON``, besides those of the settings.
            optimizer: for a model: builds its optimizer; AdamW at 1e-3 without.
            evaluate: for a model: metrics of it, higher is better.
            allow_missing: whether rules may be about something that the run does not have.
            **options: ``train`` and fields of ``AnalysisOptions``: steps, every, seed, device,
                recipes, recipe_steps, seeds.

        Raises:
            AssertionError: a rule is hit, or could not be judged; one line for each.
            PrecscopeError: a rule, an option or the model cannot be used.
        """
        __tracebackhide__ = True
        chosen = chosen_rules(tuple(rules), self.settings)
        accepted = chosen_waivers((*waivers, *self._waived), self.settings)
        workload = self._workload(subject, batches, loss, optimizer, evaluate)
        if workload is not None:
            result = self._analyzed(workload, chosen, options)
        elif options:
            raise UsageError(f"{next(iter(options))} is for models: a run is given")
        else:
            result = _result_of(subject)
        outcome = waive(judge_all(chosen, result), accepted)
        _warn_of_idle(outcome, accepted[: len(waivers)])
        missing_is_fine = self.settings.allow_missing if allow_missing is None else allow_missing
        if told := _failure(outcome, result, missing_is_fine):
            raise AssertionError(told)
        return result

    def _workload(
        self,
        subject: Subject,
        batches: Batches | None,
        loss: Loss | None,
        optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] | None,
        evaluate: Callable[[torch.nn.Module], dict[str, float]] | None,
    ) -> Workload | None:
        """What is to be analyzed first; None where the subject is a run."""
        given = [x is not None for x in (batches, loss, optimizer, evaluate)]
        if callable(subject):
            if batches is None or loss is None:
                raise UsageError("a model needs its batches and its loss: (model, batches, loss)")
            return Workload(
                name=self._request.node.name,
                path=self._request.path,
                model=_builder(subject),
                batches=_source(batches),
                loss=loss,
                optimizer=optimizer or default_optimizer,
                evaluate=evaluate,
                default_optimizer=optimizer is None,
            )
        if any(given):
            raise UsageError("batches, loss, optimizer and evaluate are for models: a run is given")
        if isinstance(subject, (str, Path)) and not is_run(Path(subject)):
            return load_workload(Path(subject))
        return None

    def _analyzed(
        self, workload: Workload, rules: tuple[Rule, ...], options: dict[str, Any]
    ) -> Result:
        from precscope.analysis import AnalysisOptions, analyze

        settings = {"train": False, **self.settings.options, **options}
        settings["recipes"] = tuple(settings.get("recipes", recipes_of(rules)))
        if not settings["train"]:
            check_trained(rules)
        try:
            chosen = AnalysisOptions(**settings)
        except TypeError as error:
            raise UsageError(f"precscope_check: {error}") from error
        folder = self._request.getfixturevalue("tmp_path_factory").mktemp("precscope")
        recording = folder / "run.precscope"
        state = capture(torch.device("cpu"))
        try:
            analyze(workload, recording, chosen, f"pytest {self._request.node.nodeid}", Display())
        finally:
            restore(state, torch.device("cpu"))
        return result_of_recordings((recording,))


def _builder(subject: Callable[..., Any]) -> Callable[[], torch.nn.Module]:
    if isinstance(subject, torch.nn.Module):
        return lambda: copy.deepcopy(subject)
    return subject


def _source(batches: Batches) -> Callable[[], Iterable[Any]]:
    if callable(batches):
        return batches
    if isinstance(batches, Iterator):
        raise UsageError("batches can be iterated once only: give a list, or a function")
    return lambda: batches


def _result_of(subject: Any) -> Result:
    if isinstance(subject, Recording):
        return build_result(subject)
    if isinstance(subject, Mapping):
        return checked_result(subject, "the result given")
    paths = [subject] if isinstance(subject, (str, Path)) else list(subject)
    return result_of_runs(tuple(Path(path) for path in paths))


def _failure(outcome: Outcome, result: Result, allow_missing: bool) -> str:
    """What the assertion says; empty if the test goes on."""
    nothing_judged = len(outcome.problems) == len(outcome.judgements)
    missing = [] if allow_missing and not nothing_judged else problem_lines(outcome)
    hits = hit_lines(outcome)
    return "\n".join([summary_line(outcome, result), *hits, *missing]) if hits or missing else ""


def _warn_of_idle(outcome: Outcome, given: Sequence[Waiver]) -> None:
    """Of the waivers of the call only: those of the settings may be for another test."""
    idle = tuple(waiver for waiver in outcome.idle if waiver in given)
    for line in idle_lines(replace(outcome, idle=idle)):
        warnings.warn(pytest.PytestWarning(line), stacklevel=3)


def _with_ini(settings: Settings, config: pytest.Config) -> Settings:
    options = dict(settings.options)
    for name in ("steps", "every", "seed"):
        if text := config.getini(f"precscope_{name}"):
            options[name] = _integer(name, text)
    if device := config.getini("precscope_device"):
        options["device"] = device
    rules = tuple(config.getini("precscope_fail_on"))
    return replace(settings, fail_on=rules or settings.fail_on, options=options)


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"precscope_{name} is {text!r}: write a number") from None
