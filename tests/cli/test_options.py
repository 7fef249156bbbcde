"""What is typed, what reaches the library, and what is refused. The library is a stand-in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from precscope_cli.main import cli

COMMANDS = ("analyze", "train", "report", "doctor")


def error_line(result: Result) -> str:
    """The one line on stderr."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return str(lines[0])


def test_the_bare_command_shows_its_help(invoke: Any) -> None:
    result = invoke()
    assert result.exit_code == 0
    assert all(re.search(rf"^  {name} ", result.stdout, re.M) for name in COMMANDS)


def test_version(invoke: Any) -> None:
    import precscope

    result = invoke("--version")
    assert result.exit_code == 0
    assert precscope.__version__ in result.stdout


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_has_examples_that_parse(invoke: Any, command: str) -> None:
    text = invoke(*command.split(), "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    examples = re.findall(
        r"^ +(?:\w+=\S+ )*precscope (\S+)([^|>\n]*)", text.split("Examples:")[1], re.M
    )
    assert len(examples) >= 2
    for name, rest in examples:
        found = cli.get_command(None, name)  # type: ignore[arg-type]
        assert found is not None
        found.make_context(name, rest.replace("'", "").split())


@pytest.mark.parametrize("command", ["analyze", "train"])
def test_options_reach_the_library(library: Any, invoke: Any, command: str) -> None:
    result = invoke(
        *(command, "tiny.py", "--recipes", "bf16, fp16,bf16", "--recipe-steps", "7"),
        *("--seed", "3", "--device", "cuda:1"),
    )
    assert result.exit_code == 0, result.stderr
    name, options, _ = library.calls[0]
    assert name == {"analyze": "analyze", "train": "train_only"}[command]
    assert options == {
        "recipes": ("fp32", "bf16", "fp16"),
        "recipe_steps": 7,
        "seed": 3,
        "device": "cuda:1",
    }


def test_analyze_takes_steps_every_and_no_train(library: Any, invoke: Any) -> None:
    assert invoke("analyze", "tiny.py", "--steps", "5", "--every", "2", "--no-train").exit_code == 0
    assert library.calls[0][1] == {"steps": 5, "every": 2, "train": False}


def test_what_is_not_given_is_left_to_the_library(library: Any, invoke: Any) -> None:
    assert invoke("analyze", "tiny.py").exit_code == 0
    assert library.calls[0][1] == {}


def test_train_leaves_out_the_recipe_that_needs_an_analysis(library: Any, invoke: Any) -> None:
    assert invoke("train", "tiny.py", "--steps", "4").exit_code == 0
    options = library.calls[0][1]
    assert options["recipe_steps"] == 4
    assert options["recipes"][0] == "fp32"
    assert "advised" not in options["recipes"]


def test_defaults_in_the_help_are_the_library_s(invoke: Any) -> None:
    from precscope.analysis import AnalysisOptions
    from precscope_cli.train import DEFAULT_RECIPES

    defaults = AnalysisOptions()
    text = " ".join(invoke("analyze", "--help").stdout.split()).replace("- ", "-")
    for option in ("steps", "every", "recipe_steps", "seed", "device"):
        flag = f"--{option.replace('_', '-')} "
        about = text.split(flag)[1].split(" --")[0]
        assert f"[default: {getattr(defaults, option)}]" in about
    assert f"[default: {', '.join(defaults.recipes)}]" in text
    assert tuple(name for name in defaults.recipes if name != "advised") == DEFAULT_RECIPES


def test_the_command_is_recorded_as_it_can_be_pasted(library: Any, invoke: Any, here: Path) -> None:
    (here / "my model.py").write_text((here / "tiny.py").read_text())
    invoke("analyze", "my model.py", "--seed", "1")
    assert library.calls[0][2] == "precscope analyze 'my model.py' --seed 1"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--steps 0", "--steps"),
        ("--steps many", "--steps"),
        ("--every 0", "--every"),
        ("--every -1", "--every"),
        ("--recipe-steps 0", "--recipe-steps"),
        ("--seed -1", "--seed"),
        ("--seed 1.5", "--seed"),
        ("--device gpu", "--device"),
        ("--device cuda:x", "--device"),
        ("--recipes ,", "--recipes"),
        ("--no-such-option", "--no-such-option"),
        ("--output", "--output"),
        ("surplus", "surplus"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(
    library: Any, invoke: Any, arguments: str, named: str
) -> None:
    result = invoke("analyze", "tiny.py", *arguments.split())
    assert result.exit_code == 2
    line = error_line(result)
    assert line.startswith("error: ")
    assert named in line
    assert "(see precscope analyze --help)" in line or named == "--output"
    assert not library.calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("analyze", "Missing argument 'FILE'"),
        ("report", "Missing argument 'RUN...'"),
        ("analyse tiny.py", "No such command 'analyse'"),
        ("train tiny.py --no-train", "No such option"),
        ("report x --output", "--output"),
    ],
)
def test_a_bad_command_line_is_a_usage_error(invoke: Any, arguments: str, said: str) -> None:
    result = invoke(*arguments.split())
    assert result.exit_code == 2
    assert said in error_line(result)


def test_quiet_prints_nothing_and_still_writes(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py", "--quiet", "-o", "out")
    assert (result.exit_code, result.stderr) == (0, "")
    assert library.jobs[0].show == "nothing"
    assert {path.name for path in Path("out").iterdir()} == {
        "run.precscope",
        "report.html",
        "result.json",
    }


def test_json_on_stdout_replaces_the_report(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py", "--json", "-", "--quiet")
    assert (result.stdout, result.stderr) == ("<json>\n", "")
    assert len(library.jobs[0].json) == 1


def test_json_can_go_to_a_second_file(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py", "--json", "copy.json", "-o", "out")
    assert result.stdout == "<report>\n"
    assert library.jobs[0].json[1] == "copy.json"
    assert Path("copy.json").exists()


def test_without_output_the_folder_is_named_after_model_and_time(library: Any, invoke: Any) -> None:
    for _ in range(2):
        assert invoke("analyze", "tiny.py").exit_code == 0
    folders = sorted(path.name for path in Path("precscope-runs").iterdir())
    assert len(folders) == 2
    assert all(re.fullmatch(r"tiny-\d{8}-\d{6}(-2)?", name) for name in folders)


def test_phases_are_one_line_each_when_stderr_is_no_terminal(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py")
    assert result.stderr.splitlines() == [
        "precscope: load",
        "precscope: observe, 2 steps",
        "precscope: render",
    ]


def test_the_report_ends_with_commands_that_parse(library: Any, invoke: Any) -> None:
    import shlex

    invoke("analyze", "tiny.py", "-o", "my runs", "--recipe-steps", "20")
    commands = library.jobs[0].next_commands
    assert any("--recipe-steps 200" in command for command in commands)
    for command in commands:
        program, name, *rest = shlex.split(command, comments=True)
        found = cli.get_command(None, name)  # type: ignore[arg-type]
        assert program == "precscope"
        assert found is not None
        found.make_context(name, rest)
