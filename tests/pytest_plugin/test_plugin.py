"""The plug-in, by running pytest with it on small projects."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Imported here, or pytester would drop it after each run and import compiled modules twice.
import precscope_cli.check_pytest  # noqa: F401
from tests.rules.sample_run import sample

pytest_plugins = "pytester"

RUNS = """
import json, pathlib
RESULT = json.loads(pathlib.Path("result.json").read_text())
"""

MODELS = """
import torch
from torch import nn

def loss(model, batch):
    return nn.functional.mse_loss(model(batch), torch.zeros(8, 4))

def batches():
    for _ in range(2):
        yield torch.randn(8, 4)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with the sample as ``result.json``."""
    (pytester.path / "result.json").write_text(json.dumps(sample()))
    return pytester


def outcomes(project: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(test_it=test)
    return project.runpytest("-p", "no:cacheprovider", "-W", "error", *arguments)


def test_the_plugin_is_installed_with_the_package() -> None:
    (found,) = importlib.metadata.entry_points(group="pytest11", name="precscope")
    assert found.value == "precscope_cli.pytest_plugin"


def test_loading_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, precscope_cli.pytest_plugin\n"
        "print(*(m for m in ('torch', 'numpy', 'numba', 'click', 'rich', 'plotly', 'precscope')"
        " if m in sys.modules))"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / part) for part in (".", "cli", "reports"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_its_fixture_and_options_are_listed(project: pytest.Pytester) -> None:
    project.runpytest("--fixtures").stdout.fnmatch_lines(["precscope_check*", "*precision rule*"])
    project.runpytest("--help").stdout.fnmatch_lines(["*precscope_fail_on (linelist)*"])


def test_a_rule_that_is_not_hit_passes(project: pytest.Pytester) -> None:
    done = outcomes(
        project,
        RUNS
        + """
def test_it(precscope_check):
    result = precscope_check(RESULT, rules=["flushed > 0.5"])
    assert result["title"] == "sample"
    precscope_check("result.json", rules=["flushed > 0.5"])
""",
    )
    done.assert_outcomes(passed=1)


def test_a_hit_fails_with_a_line_for_each_place(project: pytest.Pytester) -> None:
    done = outcomes(
        project,
        RUNS
        + """
def test_it(precscope_check):
    precscope_check(RESULT, rules=["amax > 0.3", "retention < 0.8", "flushed > 0.5"])
""",
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "E *AssertionError: precscope check sample: 3 rules checked, 2 rules hit in 3 places*",
            "E *amax > 0.3: enc.0 (activation): 1, limit > 0.3",
            "E *amax > 0.3: enc.0.weight (weight): 0.5, limit > 0.3",
            "E *retention < 0.8: enc.0.weight: 0.75 of the update*",
        ]
    )
    done.stdout.no_fnmatch_line("*check_pytest.py:*")


def test_a_rule_that_cannot_be_judged_fails_unless_that_is_allowed(
    project: pytest.Pytester,
) -> None:
    done = outcomes(
        project,
        RUNS
        + """
def test_one(precscope_check):
    precscope_check(RESULT, rules=["step_ms[x] > 1"])

def test_two(precscope_check):
    precscope_check(RESULT, rules=["step_ms[x] > 1", "flushed > 0.5"], allow_missing=True)

def test_three(precscope_check):
    precscope_check(RESULT, rules=["step_ms[x] > 1"], allow_missing=True)
""",
    )
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(["E *not judged: step_ms[[]x] > 1: recipe x was not trained*"])


def test_rules_and_waivers_come_from_the_ini_file_or_the_project(project: pytest.Pytester) -> None:
    test = """
def test_it(precscope_check):
    precscope_check("result.json")
"""
    project.makepyprojecttoml('[tool.precscope]\nfail-on = "amax > 0.3"\n')
    outcomes(project, test).assert_outcomes(failed=1)
    project.makepyprojecttoml(
        '[tool.precscope]\nfail-on = "amax > 0.3"\n'
        '[[tool.precscope.waivers]]\nrule = "amax"\nsite = "enc.*"\nreason = "known"\n'
        '[[tool.precscope.waivers]]\nrule = "flushed"\nreason = "for another test"\n'
    )
    outcomes(project, test).assert_outcomes(passed=1)
    project.makeini("[pytest]\nprecscope_fail_on =\n    retention < 0.8\n    flushed > 0.5\n")
    outcomes(project, test).assert_outcomes(failed=1)
    project.makeini(
        "[pytest]\nprecscope_fail_on = retention < 0.8\n"
        "precscope_waive = retention @ enc.*: measured\n"
    )
    outcomes(project, test).assert_outcomes(passed=1)


def test_an_idle_waiver_of_the_call_warns(project: pytest.Pytester) -> None:
    test = """
def test_it(precscope_check):
    precscope_check("result.json", rules=["flushed > 0.5"], waivers=["flushed: not any more"])
"""
    project.makepyfile(test_it=test)
    done = project.runpytest("-p", "no:cacheprovider", "-W", "default")
    done.assert_outcomes(passed=1, warnings=1)
    done.stdout.fnmatch_lines(["*unused waiver: flushed covers no hit*"])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ('"result.json"', "nothing to check: name a rule"),
        ('"result.json", rules=["flushd > 1"]', "the nearest is flushed"),
        ('"result.json", rules=["flushed > 0.5"], steps=3', "steps is for models"),
        ('"result.json", [1], rules=["flushed > 0.5"]', "are for models: a run is given"),
        ('{"schema": 1}, rules=["flushed > 0.5"]', "it has no coverage"),
        ('"none.py", rules=["flushed > 0.5"]', "none.py"),
        ('print, rules=["flushed > 0.5"]', "needs its batches and its loss"),
        ('print, iter([]), print, rules=["flushed > 0.5"]', "iterated once only"),
        ('print, [], print, rules=["flushed > 0.5"], stpes=3', "stpes"),
        ('print, [], print, rules=["parity worse"]', "add --train"),
    ],
)
def test_a_wrong_call_says_what_to_change(project: pytest.Pytester, call: str, told: str) -> None:
    test = f"def test_it(precscope_check):\n    precscope_check({call})\n"
    done = outcomes(project, test)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([f"E *Error: *{told}*"])


IN_A_PROCESS = (
    MODELS
    + """
import precscope

class Huge(nn.Module):
    def forward(self, x):
        return x * 1e7

def test_a_model_is_left_as_it_is(precscope_check):
    model = nn.Linear(4, 4).eval()
    weight, state = model.weight.clone(), torch.get_rng_state()
    result = precscope_check(model, batches, loss, rules=["overflow > 0"])
    assert result["coverage"]["observed_steps"] == 3
    assert result["environment"]["seed"] == 5
    assert result["title"] == "test_a_model_is_left_as_it_is"
    assert torch.equal(model.weight, weight) and model.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state) and not model.training
    assert not model._forward_hooks

def test_a_broken_model(precscope_check):
    def model():
        return nn.Sequential(nn.Linear(4, 4), Huge())
    data = [torch.ones(8, 4)] * 2
    precscope_check(model, data, loss, rules=["overflow @ 1 > 0"])

def test_recipes_are_trained(precscope_check):
    result = precscope_check(
        lambda: nn.Linear(4, 4), batches, loss, rules=["diverged[bf16]", "final_loss[bf16] > 1e6"],
        optimizer=lambda model: torch.optim.SGD(model.parameters(), 0.1),
        evaluate=lambda model: {"norm": float(model.weight.norm())},
        train=True, recipe_steps=3, seeds=1,
    )
    assert {run["recipe"] for run in result["runs"]} == {"fp32", "advised", "bf16"}
    assert result["runs"][0]["metrics"]["norm"] > 0

def test_recordings(precscope_check, tmp_path):
    path = tmp_path / "run.precscope"
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with precscope.watch(model, optimizer, path=path, every=1):
        for batch in batches():
            loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    rules = ["overflow > 0", "observed_steps < 2"]
    for run in (path, str(path), tmp_path, [path], precscope.Recording.open(path)):
        assert precscope_check(run, rules=rules)["coverage"]["observed_steps"] == 2
"""
)


def test_models_are_analyzed_and_recordings_taken_as_they_are(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nprecscope_steps = 3\nprecscope_device = cpu\nprecscope_seed = 5\n")
    project.makepyfile(test_it=IN_A_PROCESS)
    # A second analysis in this process would import compiled modules again, which they forbid.
    done = project.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    done.assert_outcomes(passed=3, failed=1)
    done.stdout.fnmatch_lines(
        [
            "*test_a_broken_model*",
            "E *overflow @ 1 > 0: 1 (activation): * of the non-zero values*",
        ]
    )
