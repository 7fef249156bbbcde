"""``precscope check`` on runs and on a model file: exit codes, lines, and what stands where."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import precscope.analysis.warmup  # noqa: F401 - before a stand-in takes its parent's place
from precscope.facts import StepRecord
from precscope.recording import Recording, RecordingWriter
from precscope_cli.main import cli
from tests.cli.conftest import TINY_MODEL
from tests.rules.sample_run import finding, sample, site
from tests.support.recordings import recording

SEEN = "(4 sites, 60 observed steps, 3 training runs)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the sample as ``result.json``, outside of any GitHub workflow."""
    for name in ("GITHUB_ACTIONS", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "result.json")
    return tmp_path


def write(path: Path, result: dict[str, Any] | None = None) -> None:
    path.write_text(json.dumps(sample() if result is None else result))


def test_a_clean_run_exits_with_0_and_one_line(folder: Path, invoke: Any) -> None:
    done = invoke("check", "result.json", "--fail-on", "flushed > 0.5")
    assert done.exit_code == 0
    assert done.stdout == f"precscope check sample: 1 rule checked, none hit {SEEN}\n"
    assert done.stderr == ""


def test_hits_exit_with_10_and_a_line_each(folder: Path, invoke: Any) -> None:
    rules = ("--fail-on", "amax > 0.3", "--fail-on", "loss_scale static, impossible")
    done = invoke("check", "result.json", *rules)
    assert done.exit_code == 10
    assert done.stdout.splitlines() == [
        "amax > 0.3: enc.0 (activation): 1, limit > 0.3",
        "amax > 0.3: enc.0.weight (weight): 0.5, limit > 0.3",
        "loss_scale static, impossible: the model: static (tried)",
        f"precscope check sample: 2 rules checked, 2 rules hit in 3 places {SEEN}",
    ]


def test_a_rule_that_cannot_be_judged_exits_with_1_and_says_why(folder: Path, invoke: Any) -> None:
    done = invoke("check", "result.json", "--fail-on", "flushed @ nope > 0.5")
    assert done.exit_code == 1
    assert "not judged: flushed @ nope > 0.5: no site matches 'nope'" in done.stderr
    assert "1 not judged" in done.stdout


def test_a_hit_counts_more_than_a_rule_that_was_not_judged(folder: Path, invoke: Any) -> None:
    done = invoke("check", "result.json", "--fail-on", "step_ms[x] > 1", "--fail-on", "amax > 0")
    assert done.exit_code == 10
    assert "recipe x was not trained" in done.stderr


def test_missing_quantities_can_be_allowed_but_not_all_of_them(folder: Path, invoke: Any) -> None:
    missing, present = ("--fail-on", "step_ms[x] > 1"), ("--fail-on", "flushed > 0.5")
    done = invoke("check", "result.json", *missing, *present, "--allow-missing")
    assert done.exit_code == 0
    assert "not judged" in done.stderr
    assert invoke("check", "result.json", *missing, "--allow-missing").exit_code == 1
    assert invoke("check", "result.json", *missing, *present).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to check: name a rule"),
        (("--fail-on", "flushd > 1e-3"), "the nearest is flushed"),
        (("--fail-on", "flushed > 0.5", "--waive", "flushed"), "ends in its reason"),
        (("--fail-on", "flushed > 0.5", "--steps", "3"), "--steps is for model files and scripts"),
        (("--fail-on", "flushed > 0.5", "--train"), "--train is for model files and scripts"),
        (("--fail-on", "flushed > 0.5", "--junit", "."), "is a folder"),
        (("--fail-on", "flushed > 0.5", "--config", "none.toml"), "cannot read none.toml"),
        (("--fail-on", "flushed > 0.5", "--device", "cpu"), "--device is for model files"),
        (("--fail-on", "flushed > 0.5", "other.precscope"), "only Recordings can be merged"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    folder: Path, invoke: Any, arguments: tuple[str, ...], told: str
) -> None:
    done = invoke("check", "result.json", *arguments)
    assert done.exit_code == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_waived_hits_pass_and_idle_waivers_are_told(folder: Path, invoke: Any) -> None:
    rule = ("--fail-on", "amax > 0.3")
    waived = ("--waive", "amax @ enc.*: known", "--waive", "flushed: not any more")
    done = invoke("check", "result.json", *rule, *waived)
    assert done.exit_code == 0
    assert "2 hits waived" in done.stdout
    assert done.stderr == (
        "unused waiver: flushed covers no hit, remove it (its reason: not any more)\n"
    )
    partly = invoke("check", "result.json", *rule, "--waive", "amax @ *.weight: known")
    assert partly.exit_code == 10
    assert "enc.0.weight" not in partly.stdout


def test_quiet_prints_hits_and_nothing_else(folder: Path, invoke: Any) -> None:
    clean = invoke("check", "result.json", "-q", "--fail-on", "flushed > 0.5")
    assert (clean.exit_code, clean.stdout, clean.stderr) == (0, "", "")
    assert "enc.0" in invoke("check", "result.json", "-q", "--fail-on", "amax > 0").stdout


def test_a_recording_a_folder_and_several_recordings(folder: Path, invoke: Any) -> None:
    (folder / "out").mkdir()
    first = recording([("a", "activation", (1.0, 2.0**-30))], autocast_dtype="float16")
    for path in ("out/run.precscope", "second.precscope"):
        save(first, folder / path)
    rule = ("--fail-on", "flushed >= 0.5")
    for runs in (("out",), ("out/run.precscope",), ("out", "second.precscope")):
        done = invoke("check", *runs, *rule)
        assert done.exit_code == 10, done.stderr
        assert done.stdout.startswith("flushed >= 0.5: a (activation): 0.5 of the non-zero")


def save(made: Recording, path: Path) -> None:
    with RecordingWriter(path, {"title": "saved"}) as writer:
        for number, known in enumerate(made.sites):
            writer.add_site(known)
            for window in made.windows(number):
                writer.add_window(number, window)
        writer.add_step(StepRecord(0, 1.0, 0.0, None, 0.0))
        writer.put_document("coverage", {**sample()["coverage"], "observed_steps": 1})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        ("[]", "is no result"),
        ("{}", "is no result"),
        ('{"schema": 2}', "is of schema 2: this version reads 1"),
        ('{"schema": 1}', "it has no coverage"),
    ],
)
def test_what_is_no_result_is_told_in_one_line(
    folder: Path, invoke: Any, content: str, told: str
) -> None:
    (folder / "bad.json").write_bytes(content.encode("latin-1"))
    done = invoke("check", "bad.json", "--fail-on", "flushed > 0.5")
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["none.json", "none.precscope", "none", "none.py"])
def test_what_is_not_there_is_told(folder: Path, invoke: Any, name: str) -> None:
    done = invoke("check", name, "--fail-on", "flushed > 0.5")
    assert done.exit_code == 1
    assert name in done.stderr


def test_hostile_names_stay_on_one_line(folder: Path, invoke: Any) -> None:
    result = sample()
    name = "a\n::error::b\x1b[31m\u202e##[add-mask]x"
    result["sites"] = [site(name, "activation", 1.0)]
    result["title"] = "t\nt"
    result["findings"] = [finding("overflow", "critical", name)]
    write(folder / "result.json", result)
    for rule in ("amax > 0", "finding overflow"):
        done = invoke("check", "result.json", "--fail-on", rule)
        assert done.exit_code == 10
        assert len(done.stdout.splitlines()) == 2
        assert not {"\x1b", "\u202e"} & set(done.stdout)
        assert "##[" not in done.stdout


def test_annotations_and_junit_on_request(folder: Path, invoke: Any) -> None:
    done = invoke(
        *("check", "result.json", "--fail-on", "amax > 0.9", "--fail-on", "sites < 2"),
        *("--github", "--junit", "out.xml"),
    )
    assert done.exit_code == 10
    message = "enc.0 (activation): 1, limit > 0.9"
    assert f"::error title=amax > 0.9::{message}" in done.stdout.splitlines()
    suite = ET.parse(folder / "out.xml").getroot()[0]
    assert suite.attrib | {"name": ""} == {
        "name": "",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "0",
    }


def test_a_workflow_is_recognised(
    folder: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = ("--fail-on", "amax > 0.9")
    assert "::error" not in invoke("check", "result.json", *rule).stdout
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error" in invoke("check", "result.json", *rule).stdout
    assert "::error" not in invoke("check", "result.json", *rule, "--no-github").stdout


def test_rules_of_the_project_are_used_and_replaced(folder: Path, invoke: Any) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.precscope]\nfail-on = ["amax > 0.9"]\njunit = "found.xml"\n'
        '[[tool.precscope.waivers]]\nrule = "loss_scale"\nreason = "on purpose"\n'
    )
    done = invoke("check", "result.json")
    assert done.exit_code == 10
    assert done.stdout.startswith("amax > 0.9: ")
    assert (folder / "found.xml").exists()
    done = invoke("check", "result.json", "--fail-on", "loss_scale static")
    assert done.exit_code == 0
    assert "1 hit waived" in done.stdout


@pytest.fixture
def analyses(library: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in for the library, whose rendering writes the sample as the result."""
    plain = library.render

    def render(job: Any) -> Any:
        rendered = plain(job)
        for path in job.json:
            write(Path(path))
        return rendered

    monkeypatch.setattr("precscope_cli.run.render_fresh", render)
    return library


class TestAModelFile:
    def test_is_analyzed_without_training(self, analyses: Any, invoke: Any, here: Path) -> None:
        done = invoke("check", "tiny.py", "--steps", "7", "--fail-on", "amax > 0.9", "-o", "out")
        assert done.exit_code == 10, done.stderr
        ((name, settings, command),) = analyses.calls
        assert (name, settings["steps"], settings["train"]) == ("analyze", 7, False)
        assert command.startswith("precscope check tiny.py --steps 7")
        assert "precscope: analyze tiny.py into out" in done.stderr
        assert "<report>" not in done.stdout

    def test_trains_what_the_rules_name_if_asked(
        self, analyses: Any, invoke: Any, here: Path
    ) -> None:
        rule = ("--fail-on", "final_loss[fp16] > 9")
        done = invoke("check", "tiny.py", "--train", "--recipe-steps", "3", *rule)
        assert done.exit_code == 0, done.stderr
        settings = analyses.calls[0][1]
        assert settings["train"] is True
        assert settings["recipes"] == ("fp32", "advised", "fp16")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--fail-on", "parity worse"),
            ("--fail-on", "finding promise_broken"),
            ("--fail-on", "amax > 1", "--recipe-steps", "3"),
            ("--fail-on", "amax > 1", "--recipes", "fp16", "--no-train"),
        ],
    )
    def test_training_is_not_forgotten(
        self, analyses: Any, invoke: Any, here: Path, arguments: tuple[str, ...]
    ) -> None:
        done = invoke("check", "tiny.py", *arguments)
        assert done.exit_code == 2
        assert "add --train" in done.stderr
        assert not analyses.calls

    def test_takes_options_of_its_project(self, analyses: Any, invoke: Any, here: Path) -> None:
        (here / "pkg").mkdir()
        (here / "tiny.py").rename(here / "pkg/tiny.py")
        (here / "pkg/pyproject.toml").write_text(
            '[tool.precscope]\nfail-on = "amax > 9"\nsteps = 5\nseed = 3\ntrain = true\n'
        )
        done = invoke("check", "pkg/tiny.py", "--seed", "4")
        assert done.exit_code == 0, done.stderr
        settings = analyses.calls[0][1]
        assert (settings["steps"], settings["seed"], settings["train"]) == (5, 4, True)


def test_a_real_model_file_is_held_against_rules(tmp_path: Path, command: Any) -> None:
    (tmp_path / "tiny.py").write_text(TINY_MODEL)
    done = command(
        *("check", "tiny.py", "--steps", "4", "--device", "cpu", "-o", "out"),
        *("--fail-on", "overflow > 0", "--fail-on", "amax[weight] > 1e-9"),
        cwd=tmp_path,
    )
    assert done.returncode == 10, done.stderr
    assert done.stdout.splitlines()[0].startswith("amax[weight] > 1e-9: ")
    assert "overflow > 0: " not in done.stdout
    assert (tmp_path / "out/report.html").exists()


def test_a_script_that_fails_is_not_checked(tmp_path: Path, command: Any) -> None:
    (tmp_path / "train.py").write_text("import sys\nsys.exit(7)\n")
    done = command("check", "train.py", "--fail-on", "overflow > 0", cwd=tmp_path)
    assert done.returncode == 7
    assert "nothing was checked" in done.stderr
    assert done.stdout == ""


def test_help_shows_examples_and_exit_codes(invoke: Any) -> None:
    shown = invoke("check", "--help").stdout
    assert "--fail-on" in shown
    assert shown.count("precscope check ") >= 8
    assert "10 a rule was hit" in shown
    assert "check" in cli.list_commands(None)  # type: ignore[arg-type]
