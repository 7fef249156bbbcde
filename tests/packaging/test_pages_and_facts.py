"""What README and docs list is all there is: names, options, recipes; and the figures they quote."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import precscope
from precscope.recipe import LossScaling, Recipe
from precscope.recipe.named import RECIPES
from precscope_cli.main import cli
from tests.known_answers.suite import CASES
from tests.known_answers.test_broken_advice import FAULTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LIBRARY = (ROOT / "docs" / "library.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
CHECK = (ROOT / "docs" / "check.md").read_text()
RESULTS = ROOT / "benchmarks" / "results" / "cpu-amd-epyc"
TOOLS = {
    "nvdlfw-inspect": "nvdlfw-inspect",
    "torchexplorer": "torchexplorer",
    "Transformers' DebugUnderflowOverflow": "transformers DebugUnderflowOverflow",
    "torch's anomaly mode": "torch anomaly mode",
    "unit-scaling's `track_scales`": "unit-scaling track_scales",
    "`wandb.watch`": "wandb.watch",
    "msprobe's monitor": "msprobe monitor_v2",
    "torch's DebugMode with hashes": "torch DebugMode, hashes",
    "TensorBoard histograms of weights and gradients": "TensorBoard add_histogram",
    "precscope": "precscope",
}
"""Rows of the table in README, as the results call them."""


def options_of(command: str) -> list[str]:
    found = cli.get_command(None, command)  # type: ignore[arg-type]
    assert found is not None
    given = [option for p in found.params for option in (*p.opts, *p.secondary_opts)]
    return [option for option in given if option.startswith("-")]


def results(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / name).read_text())["results"]
    return found


@pytest.mark.parametrize("command", cli.list_commands(None))  # type: ignore[arg-type]
def test_every_command_and_its_options_are_listed(command: str) -> None:
    rows = [line for line in COMMANDS.splitlines() if line.startswith("| ")]
    named = " ".join(row.split("|")[1] for row in rows)
    assert f"`precscope {command}" in COMMANDS
    assert [o for o in options_of(command) if not re.search(rf"`{o}[ `]", named)] == []


def test_every_public_name_is_listed() -> None:
    assert [name for name in precscope.__all__ if f"`precscope.{name}" not in LIBRARY] == []


def test_every_argument_of_watch_is_listed() -> None:
    names = inspect.signature(precscope.watch).parameters
    assert [name for name in names if f"`{name}`" not in LIBRARY] == []


def test_every_recipe_and_field_is_listed() -> None:
    names = [*RECIPES, *(f.name for kind in (Recipe, LossScaling) for f in fields(kind))]
    assert [name for name in names if f"`{name}`" not in LIBRARY] == []


def test_the_cost_in_the_readme_is_that_of_the_results() -> None:
    for result in results("overhead.json"):
        told = f"{result['ratio']:.3f}"
        if "updates" not in result["arm"]:
            low, high = result["ratio_lowest_build"], result["ratio_highest_build"]
            told += f" ({low:.3f} to {high:.3f})"
        assert told in README, result["arm"]


def test_the_other_tools_in_the_readme_are_those_of_the_results() -> None:
    measured = [r for r in results("overhead_peers.json") if r.get("every") == 1]
    told = {
        TOOLS[cells[1].strip()]: [cells[2].strip(), cells[3].strip()]
        for cells in (line.split("|") for line in README.splitlines())
        if len(cells) == 5 and cells[1].strip() in TOOLS
    }
    wanted: dict[str, list[str]] = {}
    for result in measured:
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else "fails"
        wanted.setdefault(result["tool"], []).append(ratio)
    assert told == wanted


def test_the_size_of_a_report_is_that_of_the_results() -> None:
    for result in results("report_size.json"):
        assert f"{result['size_bytes'] / 1e6:.2f} MB for {result['sites']:,}" in README
        assert f"{result['first_picture_ms'] / 1e3:.2f}"[:4] in README


def test_the_numbers_of_cases_and_faults_are_right() -> None:
    assert f"{len(CASES)} small workloads" in README
    assert f"{len(FAULTS)} deliberate faults" in README


def test_check_tells_who_installs_the_reader_of_toml() -> None:
    assert "pip install tomli" not in CHECK
    assert "tomli" in (ROOT / "pyproject.toml").read_text()
