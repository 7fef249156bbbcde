"""The commands at the end of a report: after a broken promise they fit what broke it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from precscope import build_result
from precscope_cli.main import cli
from precscope_cli.next_commands import Commands
from precscope_cli.render import RenderJob, _next_commands
from precscope_cli.streams import Look
from tests.support.recordings import recording
from tests.support.runs import run, runs

COMMANDS = Commands("my model.py", observed_steps=60, trained_steps=100)
SMALL_GRADIENTS = [("fc", "activation_gradient", [2.0**-26] * 8)]
KEPT = ("kept", "report again")


def result_of(stored: list[dict[str, Any]], **documents: Any) -> dict[str, Any]:
    """A result whose advised recipe computes in FP16."""
    return build_result(recording(SMALL_GRADIENTS, runs=stored, **documents))  # type: ignore[arg-type]


def words(command: str) -> list[str]:
    """The command without its purpose, parsed by the command that it names."""
    program, name, *rest = shlex.split(command, comments=True)
    found = cli.get_command(None, name)  # type: ignore[arg-type]
    assert program == "precscope"
    assert found is not None
    found.make_context(name, list(rest))
    return [name, *rest]


def test_a_kept_promise_offers_nothing_else() -> None:
    assert COMMANDS.after_breach(result_of(runs(fp32=[1.0, 1.1], advised=[1.0, 1.1]))) == ()
    assert COMMANDS.after_breach(result_of([])) == ()


def test_a_recipe_that_did_train_like_fp32_comes_first() -> None:
    stored = runs(fp32=[1.0, 1.1], advised=[None, None], fp16=[1.01], bf16=[1.5])
    first, second = COMMANDS.after_breach(result_of(stored))
    assert words(first) == [
        *("train", "my model.py", "--recipes", "fp32,fp16", "--steps", "1000", "--seeds", "3")
    ]
    assert first.endswith("# fp16 did train like FP32: prove it")
    assert words(second)[0] == "scale-sweep"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([run("fp32", 1.0), run("advised", None)], ["scale-sweep", "my model.py"]),
        ([run("fp32", 1.0), run("advised", 1.0, skipped_steps=20)], ["scale-sweep", "my model.py"]),
        (
            [run("fp32", 1.0), run("advised", 1.5)],
            ["analyze", "my model.py", "--steps", "600"],
        ),
        (
            [run("fp32", 7e4, losses=[7e4] * 100), run("advised", None)],
            ["analyze", "my model.py"],
        ),
    ],
    ids=["diverged", "skipped", "behind", "loss beyond FP16"],
)
def test_each_breach_has_a_command_that_fits(
    stored: list[dict[str, Any]], expected: list[str]
) -> None:
    (command,) = COMMANDS.after_breach(result_of(stored))
    assert words(command) == expected


@pytest.mark.parametrize(
    "other",
    [
        run("bf16", 1.5),
        run("bf16", None),
        run("bf16", 1.0, skipped_steps=50),
        run("paper-no-master", 1.0),
    ],
    ids=["behind", "diverged", "skipped", "ablation"],
)
def test_a_recipe_that_is_no_way_out_is_not_offered(other: dict[str, Any]) -> None:
    found = COMMANDS.after_breach(result_of([run("fp32", 1.0), run("advised", None), other]))
    assert [words(command)[0] for command in found] == ["scale-sweep"]


def test_the_report_ends_with_what_fits_the_verdict() -> None:
    def offered(stored: list[dict[str, Any]], model_file: Commands | None) -> tuple[str, ...]:
        job = RenderJob((), None, (), "report", Look(), {}, KEPT, model_file=model_file)
        return _next_commands(result_of(stored), job)

    broken = [run("fp32", 1.0), run("advised", None)]
    found = offered(broken, COMMANDS)
    assert [words(command)[0] for command in found[:-1]] == ["scale-sweep"]
    assert found[-1] == KEPT[-1]
    assert offered([run("fp32", 1.0), run("advised", 1.0)], COMMANDS) == KEPT
    assert offered(broken, None) == KEPT


def test_where_fp32_itself_diverged_nothing_is_to_be_trained_longer() -> None:
    stored = runs(fp32=[None], advised=[None], fp16=[1.0])
    (only,) = COMMANDS.after_breach(result_of(stored))
    assert words(only) == ["analyze", "my model.py"]
    assert only.endswith("# once FP32 itself trains")


def test_a_training_without_advice_leads_to_an_analysis() -> None:
    assert words(COMMANDS.what_to_set()) == ["analyze", "my model.py"]
