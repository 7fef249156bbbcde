"""``[tool.precscope]``: found upward, read strictly, and what it says about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from precscope.errors import UsageError
from precscope_cli import settings
from precscope_cli.settings import KEYS, OPTIONS, WaiverEntry, find_settings, load_settings

FULL = """
[project]
name = "mine"

[tool.precscope]
fail-on = ["flushed > 0.5", "loss_scale impossible"]
steps = 20
every = 2
seed = 3
device = "cpu"
train = true
recipes = ["fp32", "advised"]
recipe-steps = 50
seeds = 2
github = false
junit = "build/precscope.xml"
allow-missing = true

[[tool.precscope.waivers]]
rule = "flushed"
site = "embed*"
reason = "sparse"

[[tool.precscope.waivers]]
rule = "finding overflow"
site = ["a", "b"]
reason = "kept in FP32"
"""


def project(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def test_everything_can_be_set(tmp_path: Path) -> None:
    path = project(tmp_path, FULL)
    found = load_settings(path)
    assert found.path == path
    assert found.fail_on == ("flushed > 0.5", "loss_scale impossible")
    assert found.waivers == (
        WaiverEntry("flushed", ("embed*",), "sparse"),
        WaiverEntry("finding overflow", ("a", "b"), "kept in FP32"),
    )
    assert found.options == {
        "steps": 20,
        "every": 2,
        "seed": 3,
        "device": "cpu",
        "train": True,
        "recipes": ["fp32", "advised"],
        "recipe_steps": 50,
        "seeds": 2,
    }
    assert found.github is False
    assert found.junit == tmp_path / "build/precscope.xml"
    assert found.allow_missing is True
    assert all(key in FULL for key in KEYS)


def test_the_nearest_file_with_the_table_wins(tmp_path: Path) -> None:
    project(tmp_path, '[tool.precscope]\nfail-on = "overflow > 0"\n')
    project(tmp_path / "a", "[project]\nname = 'no table of ours, though precscope is named'\n")
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    assert find_settings(deep).fail_on == ("overflow > 0",)
    project(tmp_path / "a/b", "[tool.precscope]\nsteps = 3\n")
    assert find_settings(deep).options == {"steps": 3}
    assert find_settings(tmp_path / "a").fail_on == ("overflow > 0",)


def test_the_first_folder_comes_before_the_second(tmp_path: Path) -> None:
    project(tmp_path / "x", "[tool.precscope]\nsteps = 1\n")
    project(tmp_path / "y", "[tool.precscope]\nsteps = 2\n")
    (tmp_path / "z").mkdir()
    assert find_settings(tmp_path / "x", tmp_path / "y").options == {"steps": 1}
    assert find_settings(tmp_path / "z", tmp_path / "y").options == {"steps": 2}
    assert find_settings(tmp_path / "z").path is None


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("fail_on = []", "unknown key 'fail_on': the nearest is fail-on"),
        ("stpes = 3", "unknown key 'stpes': the nearest is steps"),
        ("fail-on = 3", "fail-on is 3: write a rule or a list of rules"),
        ('fail-on = ["x", 3]', "write a rule or a list of rules"),
        ("steps = 0", "steps is 0: write a number from 1 on"),
        ("steps = true", "write a number from 1 on"),
        ("steps = 1.5", "write a number from 1 on"),
        ("seed = -1", "write a number from 0"),
        ("seed = 4294967296", "write a number from 0"),
        ("device = 3", "write auto, cpu, cuda or cuda:N"),
        ("device = 'gpu'", "write auto, cpu, cuda or cuda:N"),
        ("train = 'yes'", "write true or false"),
        ("recipes = 'fp16'", "write a list of names"),
        ("github = 'auto'", "write true or false"),
        ("junit = ''", "write a path"),
        ("waivers = 'x'", "write tables"),
        ("waivers = [3]", "write tables"),
        ("waivers = [{rule = 'x'}]", "a waiver needs a reason"),
        ("waivers = [{reason = 'x'}]", "a waiver needs a rule"),
        ("waivers = [{rule = 'x', reason = ''}]", "write a reason in words"),
        ("waivers = [{rule = 'x', reason = 'y', sit = 'z'}]", "unknown key 'sit': the nearest is"),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_the_file_and_the_remedy(
    tmp_path: Path, table: str, told: str
) -> None:
    path = project(tmp_path, f"[tool.precscope]\n{table}\n")
    with pytest.raises(UsageError) as raised:
        load_settings(path)
    assert told in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.precscope", "is not TOML"),
        ("[tool]\nprecscope = 3", "is no table"),
        ("# precscope", r"has no table \[tool.precscope\]"),
        ("tool = 3 # precscope", "has no table"),
    ],
)
def test_a_file_without_a_table_that_can_be_read(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        load_settings(project(tmp_path, text))


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot read"):
        find_settings(tmp_path)


def test_without_a_toml_reader_only_a_file_that_needs_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_toml", lambda: None)
    project(tmp_path / "a", "[project]\nname = 'x'\n")
    assert find_settings(tmp_path / "a").path is None
    project(tmp_path / "b", "[tool.precscope]\nsteps = 1\n")
    with pytest.raises(UsageError, match="pip install tomli"):
        find_settings(tmp_path / "b")


def test_options_are_fields_of_an_analysis() -> None:
    from dataclasses import fields

    from precscope.analysis import AnalysisOptions

    known = {field.name for field in fields(AnalysisOptions)}
    assert {key.replace("-", "_") for key in OPTIONS} <= known
