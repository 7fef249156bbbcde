"""The whole flow over a script: observed, advised, run again with recipes and other seeds."""

from __future__ import annotations

from io import StringIO
from typing import Any

import numpy
import pytest
from rich.console import Console

from precscope.analysis.script_flow import ScriptOptions, analyze_script
from precscope.analysis.script_seeds import UNMOVED, plan_script_seeds, seeds_in_words
from precscope.result import build_result
from precscope.script import Script
from precscope_reports.html import render
from precscope_reports.terminal import print_report

LOOP = """
    import torch
    SEEDING
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    START
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for i in range(40):
        x = torch.randn(16, 8, generator=GENERATOR)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), x[:, :3].argmax(1))
        torch.autograd.backward(loss)
        optimizer.step()
"""
STEPS = 8


class Said:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins."""
        self.phases.append(name)

    def advance(self, done: int, note: str = "") -> None:
        """A step is over."""


def result_of(folder: Any, text: str, **settings: Any) -> tuple[dict[str, Any], list[str]]:
    folder.write("train.py", text)
    options = ScriptOptions(**{"steps": STEPS, "recipes": ("fp32", "advised"), **settings})
    said = Said()
    with folder.starting():
        code = analyze_script(
            Script("train.py"), folder.path / "run.precscope", options, "precscope", said
        )
    assert code == 0
    return build_result(folder.recording), said.phases


def test_runs_are_complete_and_judged_over_shifted_seeds(folder: Any) -> None:
    seeding = "import numpy; torch.manual_seed(int(numpy.random.default_rng(7).integers(9)))"
    result, phases = result_of(
        folder, LOOP.replace("SEEDING", seeding).replace("START", "").replace("GENERATOR", "None"),
        seeds=2,
    )  # fmt: skip
    runs = result["runs"]
    assert [(r["recipe"], r["seed"]) for r in runs] == [
        ("fp32", 0), ("advised", 0), ("fp32", 1), ("advised", 1),
    ]  # fmt: skip
    assert runs[0]["losses"] != runs[2]["losses"]
    assert runs[0]["losses"] == [step.loss for step in folder.recording.steps]
    for run in runs:
        assert len(run["losses"]) == run["steps"] == STEPS
        assert run["step_ms"]["median"] > 0.0
        assert (run["peak_memory_bytes"], bool(run["peak_memory_reason"])) == (None, True)
        assert run["saved_tensor_bytes"] > 0
        assert run["weight_bytes"] == run["gradient_bytes"] == 4 * (8 * 16 + 16 + 16 * 3 + 3)
        assert run["optimizer_bytes"] > 2 * run["weight_bytes"]
    assert runs[1]["saved_tensor_bytes"] < runs[0]["saved_tensor_bytes"]
    assert result["parity"]["seeds"] == [0, 1]
    assert result["parity"]["seeds_reason"] == (
        f"2 asked for; the script sets its own, numpy.random.default_rng(7), torch.manual_seed"
        f"({numpy.random.default_rng(7).integers(9)}), shifted by 1 for each further seed"
    )
    assert result["timing"]["plain_step_ms"] == runs[0]["step_ms"]["median"]
    assert result["timing"]["overhead_ratio"] > 0.0
    assert result["timing"]["observer_memory_bytes"] > 0
    assert "script_recipes_not_run" not in {finding["rule"] for finding in result["findings"]}
    assert {site["autocast_dtype"] for site in result["sites"]} >= {"float16"}
    assert phases[0] == "observe train"
    assert "run again, advised, seed 1" in phases


def test_a_script_that_no_seed_moves_has_no_spread_to_be_judged_by(folder: Any) -> None:
    start = "for p in model.parameters(): p.data.fill_(0.1).view(-1)[::2].neg_()"
    generator = "torch.Generator().manual_seed(i)"
    text = LOOP.replace("SEEDING", "").replace("START", start).replace("GENERATOR", generator)
    result, _ = result_of(folder, text, seeds=3)
    assert [(r["recipe"], r["seed"]) for r in result["runs"]] == [("fp32", 0), ("advised", 0)]
    assert result["parity"]["verdict"] == "unknown"
    assert result["parity"]["seeds_reason"] == UNMOVED


FUNCTIONAL = """
    import torch
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 1)
        def forward(self, x):
            slope = torch.func.grad(lambda y: y.square().sum())(x)
            return self.inner(slope)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(20):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
"""


def test_what_is_saved_for_backward_is_not_counted_where_that_would_break_it(folder: Any) -> None:
    result, _ = result_of(folder, FUNCTIONAL, seeds=1)
    assert [run["recipe"] for run in result["runs"]] == ["fp32", "advised"]
    assert [run["saved_tensor_bytes"] for run in result["runs"]] == [None, None]
    assert result["runs"][0]["step_ms"] is not None


@pytest.mark.parametrize(
    ("asked", "seconds", "is_proof", "failed", "count", "said"),
    [
        (None, [5.0, 6.0], True, {}, 3, "3 runs take no more than 20 s"),
        (None, [5.0, 7.0], True, {}, 1, "--seeds 3 does it"),
        (5, [50.0, 70.0], True, {}, 5, "5 asked for"),
        (5, [50.0], True, {}, 1, "no recipe was trained"),
        (None, [5.0, 6.0], False, {}, 1, "--seeds compares"),
        (3, [5.0, 6.0], True, {"advised": "boom"}, 1, "no recipe was trained"),
    ],
)
def test_seeds_are_planned_by_the_time_that_a_run_takes(
    asked: int | None, seconds: list[float], is_proof: bool, failed: Any, count: int, said: str
) -> None:
    plan = plan_script_seeds(asked, seconds, is_proof, failed)
    assert plan.count == count
    assert said in plan.reason


def test_a_script_without_a_seed_is_not_said_to_have_one(folder: Any) -> None:
    text = LOOP.replace("SEEDING", "").replace("START", "").replace("GENERATOR", "None")
    result, _ = result_of(folder, text, seeds=2)
    environment = result["environment"]
    assert (environment["seed"], "seeded torch with nothing" in environment["seed_reason"]) == (
        None,
        True,
    )
    console = Console(file=StringIO(), width=80)
    print_report(result, console)
    assert "no seed known" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "seeded torch with nothing" in render(result)
    assert result["parity"]["seeds_reason"] == (
        "2 asked for; the script sets none itself: 0 is set before it starts, 1 and so on before "
        "the others"
    )
    runs = result["runs"]
    assert runs[0]["losses"] != runs[2]["losses"]
    assert runs[0]["first_loss"] == pytest.approx(runs[1]["first_loss"], rel=1e-2)


def test_a_script_that_seeds_itself_by_the_clock_is_told() -> None:
    own = [{"torch.manual_seed": 17}, {"torch.manual_seed": 18}]
    assert "not on the same batches" in seeds_in_words(own, 0, 1)
    assert "torch.manual_seed(17) in the first run" in seeds_in_words(own, 0, 1)
    assert "shifted" not in seeds_in_words(own[:1] * 2, 0, 1)
