"""``--seeds``, ``--recipe`` and ``scale-sweep``: what reaches the library, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import precscope
from precscope import Recipe
from precscope_cli.render import RenderJob

TINY = ("--from", "-4", "--to", "4", "--step", "4", "--steps", "3", "--device", "cpu")


@pytest.fixture
def sweeping(library: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in library, which can also sweep."""
    module: Any = precscope.analysis
    monkeypatch.setattr(module, "SweepOptions", dict, raising=False)
    monkeypatch.setattr(module, "scale_sweep", library._entry("scale_sweep"), raising=False)
    return library


@pytest.mark.parametrize("command", ["analyze", "train"])
def test_seeds_and_saved_recipes_reach_the_library(
    library: Any, invoke: Any, here: Path, command: str
) -> None:
    files = ("--recipe", "a.json", "--recipe", "sub/b.json")
    result = invoke(command, "tiny.py", "--seeds", "4", *files)
    assert result.exit_code == 0, result.stderr
    _, options, _ = library.calls[0]
    assert options["seeds"] == 4
    assert options["recipe_files"] == (here / "a.json", here / "sub" / "b.json")


@pytest.mark.parametrize("command", ["analyze", "train"])
def test_without_them_the_library_decides(library: Any, invoke: Any, command: str) -> None:
    assert invoke(command, "tiny.py").exit_code == 0
    assert not {"seeds", "recipe_files"} & set(library.calls[0][1])


def test_a_sweep_is_called_with_its_range(sweeping: Any, invoke: Any) -> None:
    result = invoke("scale-sweep", "tiny.py", *TINY, "--seed", "2")
    assert result.exit_code == 0, result.stderr
    name, options, command = sweeping.calls[0]
    assert name == "scale_sweep"
    assert options == {
        "log2_from": -4, "log2_to": 4, "log2_step": 4, "steps": 3, "device": "cpu", "seed": 2,
    }  # fmt: skip
    assert command == f"precscope scale-sweep tiny.py {' '.join(TINY)} --seed 2"
    job: RenderJob = sweeping.jobs[0]
    assert job.recipe is None
    assert job.next_commands[0].startswith("precscope analyze tiny.py")


def test_the_sweep_s_defaults_are_the_library_s(invoke: Any) -> None:
    from precscope.analysis import SweepOptions

    defaults = SweepOptions()
    text = " ".join(invoke("scale-sweep", "--help").stdout.split())
    for flag, value in (
        ("--from ", defaults.log2_from), ("--to ", defaults.log2_to),
        ("--step ", defaults.log2_step), ("--steps ", defaults.steps),
    ):  # fmt: skip
        assert f"[default: {value}]" in text.split(flag, 1)[1].split("--")[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--from", "9", "--to", "3"), "--from"),
        (("--from", "30"), "--from"),
        (("--to", "99"), "--to"),
        (("--step", "0"), "--step"),
        (("--steps", "0"), "--steps"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(
    sweeping: Any, invoke: Any, arguments: tuple[str, ...], named: str
) -> None:
    result = invoke("scale-sweep", "tiny.py", *arguments)
    assert result.exit_code == 2
    assert named in result.stderr
    assert sweeping.calls == []


@pytest.mark.parametrize("command", ["analyze", "train"])
def test_zero_seeds_are_refused(library: Any, invoke: Any, command: str) -> None:
    result = invoke(command, "tiny.py", "--seeds", "0")
    assert result.exit_code == 2
    assert "--seeds" in result.stderr


def test_a_missing_recipe_file_is_one_line(here: Path, command: Any) -> None:
    done = command("train", "tiny.py", "--recipe", "nowhere.json", cwd=here)
    assert done.returncode == 2
    assert "nowhere.json" in done.stderr.splitlines()[-1]
    assert not list(here.glob("precscope-runs/*"))


def test_a_sweep_writes_its_files_and_report_shows_it_again(here: Path, command: Any) -> None:
    done = command("scale-sweep", "tiny.py", *TINY, "-o", "out", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "Scale sweep" in done.stdout
    written = sorted(path.name for path in (here / "out").iterdir())
    assert written == ["report.html", "result.json", "run.precscope"]
    sweep = json.loads((here / "out" / "result.json").read_text())["scale_sweep"]
    assert [dose["log2_scale"] for dose in sweep["doses"]] == [-4, 0, 4]
    again = command("report", "out", cwd=here)
    assert again.returncode == 0, again.stderr
    table = again.stdout.split("Scale sweep")[1].split("Files")[0]
    assert table.split("Next")[0] in done.stdout
    silent = command("report", "out", "-q", "-o", "page.html", cwd=here)
    assert silent.stdout == ""
    assert 'id="sweep-chart"' in (here / "page.html").read_text()


def test_ctrl_c_keeps_the_scales_that_are_done(
    sweeping: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeping.failure = KeyboardInterrupt()
    result = invoke("scale-sweep", "tiny.py", "-o", "out")
    assert result.exit_code == 128 + signal.SIGINT
    assert "interrupted" in result.stderr
    assert "recorded so far: out/run.precscope" in result.stderr


def test_a_saved_recipe_is_trained_by_the_real_command(here: Path, command: Any) -> None:
    Recipe.named("bf16").save(here / "bf16.json")
    done = command(
        "train", "tiny.py", "--recipes", "fp32", "--recipe", "bf16.json", "--steps", "3",
        "--seeds", "2", "--device", "cpu", "--json", "-", cwd=here,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [(run["recipe"], run["seed"]) for run in result["runs"]] == [
        ("fp32", 0), ("bf16", 0), ("fp32", 1), ("bf16", 1),
    ]  # fmt: skip
    assert result["parity"]["recipe"] == "bf16"
    assert result["parity"]["steps"] == 6
    assert result["parity"]["breaches"] == []
