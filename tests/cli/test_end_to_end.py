"""The real library behind the real command, on a model small enough to take seconds."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

SHORT = ("--steps", "4", "--recipes", "fp16", "--recipe-steps", "3", "--device", "cpu")

ENTRY = "from precscope_cli.main import main; main()"
SHADOWS = (
    "random json logging string copy signal select numbers struct tempfile decimal "
    "subprocess dataclasses html sqlite3 statistics queue secrets webbrowser shlex "
    "rich click plotly inspect textwrap unicodedata base64 gzip hashlib uuid calendar "
    "csv difflib fractions getpass glob locale pprint shutil socket threading "
    "traceback urllib zipfile markdown_it pygments narwhals "
)
"""Names that our own code, rich or plotly import, as a user might name a file."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, command: Any) -> tuple[Path, Any]:
    """A folder with a finished analysis in ``out``, and the process that made it."""
    folder = tmp_path_factory.mktemp("finished")
    write_model(folder / "tiny.py")
    return folder, command("analyze", "tiny.py", *SHORT, "-o", "out", cwd=folder)


def write_model(path: Path, batch_side_effect: str = "pass") -> None:
    path.write_text(
        "import os, signal, torch\n"
        "def model():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(),\n"
        "                               torch.nn.Linear(8, 2))\n"
        "seen = 0\n"
        "def batches():\n"
        "    global seen\n"
        "    for _ in range(8):\n"
        "        seen += 1\n"
        f"        {batch_side_effect}\n"
        "        yield torch.randn(16, 4), torch.randint(2, (16,))\n"
        "def loss(model, batch):\n"
        "    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])\n"
    )


def test_an_analysis_exits_with_0_and_writes_its_files(finished: tuple[Path, Any]) -> None:
    folder, ran = finished
    assert ran.returncode == 0, ran.stderr
    files = {path.name for path in (folder / "out").iterdir()}
    assert files == {"run.precscope", "report.html", "result.json", "recipe.json"}
    result = json.loads((folder / "out/result.json").read_text())
    assert result["schema"] == 1
    assert [run["recipe"] for run in result["runs"]] == ["fp32", "fp16"]
    assert result["coverage"]["observed_steps"] == 4
    assert result["environment"]["command"].startswith("precscope analyze tiny.py --steps 4")


def test_the_advised_recipe_can_be_loaded(finished: tuple[Path, Any]) -> None:
    from precscope.recipe import Recipe

    recipe = Recipe.load(finished[0] / "out/recipe.json")
    assert recipe.name == "advised"
    assert "out/recipe.json" in finished[1].stdout


def test_the_piped_report_is_plain_text_on_stdout(finished: tuple[Path, Any]) -> None:
    _, ran = finished
    assert "\x1b" not in ran.stdout + ran.stderr
    assert ran.stdout.startswith("precscope tiny\n")
    assert "What to do first" in ran.stdout
    assert ran.stdout.rstrip().splitlines()[-1].startswith("precscope report out/run.precscope")
    wide = [line for line in ran.stdout.splitlines() if len(line) > 80]
    assert all(line.startswith(("    ", "precscope ")) for line in wide)
    assert not [line for line in ran.stdout.splitlines() if line != line.rstrip()]


def test_progress_goes_to_stderr_a_line_per_phase(finished: tuple[Path, Any]) -> None:
    _, ran = finished
    phases = [line for line in ran.stderr.splitlines() if line.startswith("precscope: ")]
    assert phases[0] == "precscope: load"
    assert "precscope: train fp16, 3 steps" in phases
    assert phases[-1] == "precscope: render"
    assert len(phases) == len(set(phases))


def test_report_shows_the_same_again_without_the_model(
    finished: tuple[Path, Any], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = finished
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COLUMNS", raising=False)
    (folder / "tiny.py").rename(folder / "gone.txt")
    again = invoke("report", "out")
    (folder / "gone.txt").rename(folder / "tiny.py")
    assert again.exit_code == 0, again.stderr
    evidence = ran.stdout.split("\nFiles ")[0]
    assert again.stdout.startswith(evidence)
    assert again.stdout.rstrip().endswith("precscope report out -o report.html")


def test_report_prints_the_same_json(
    finished: tuple[Path, Any], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished[0])
    again = invoke("report", "out/run.precscope", "--json", "-")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(Path("out/result.json").read_text())
    assert again.stderr == ""


def test_report_writes_page_and_json(
    finished: tuple[Path, Any], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished[0])
    result = invoke("report", "out", "-o", "page.html", "--json", "copy.json", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert "<html" in Path("page.html").read_text().lower()
    assert Path("copy.json").read_text() == Path("out/result.json").read_text()


def test_report_merges_several_recordings(
    finished: tuple[Path, Any], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished[0])
    shutil.copy("out/run.precscope", "rank1.precscope")
    merged = json.loads(invoke("report", "out", "rank1.precscope", "--json", "-").stdout)
    single = json.loads(Path("out/result.json").read_text())
    for both, one in zip(merged["sites"], single["sites"], strict=True):
        assert sum(both["histogram"]["counts"]) == 2 * sum(one["histogram"]["counts"])


def test_a_reader_that_goes_away_is_no_error(
    finished: tuple[Path, Any], environ: dict[str, str]
) -> None:
    script = f'set -o pipefail; "{sys.executable}" -c "{ENTRY}" report out | head -n 1'
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=finished[0],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("precscope tiny\n", "", 0)


def test_files_of_the_user_shadow_nothing(tmp_path: Path, command: Any) -> None:
    fill_with_shadows(tmp_path)
    write_model(tmp_path / "tiny.py", "import cli, reports; assert cli.MINE and reports.MINE")
    ran = command("analyze", "tiny.py", *SHORT, "-o", "out", "--json", "-", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["coverage"]["observed_steps"] == 4
    assert (tmp_path / "out/report.html").stat().st_size > 100_000


def test_files_in_the_working_directory_shadow_nothing_with_dash_m(
    tmp_path: Path, command: Any
) -> None:
    fill_with_shadows(tmp_path)
    ran = command("doctor", cwd=tmp_path, module=True)
    assert ran.returncode == 0, ran.stderr
    assert "Numba" in ran.stdout


def fill_with_shadows(folder: Path) -> None:
    for name in SHADOWS.split():
        (folder / f"{name}.py").write_text(f"raise RuntimeError('{name} was imported')\n")
    for name in ("cli", "reports"):
        (folder / f"{name}.py").write_text("MINE = True\n")


def test_ctrl_c_leaves_a_recording_that_can_be_shown(here: Path, invoke: Any) -> None:
    write_model(here / "tiny.py", "seen != 30 or os.kill(os.getpid(), signal.SIGINT)")
    result = invoke("analyze", "tiny.py", *SHORT[2:], "--steps", "200", "-o", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "interrupted"
    shown = re.search(r"^show it with: precscope (report \S+)$", result.stderr, re.M)
    assert shown, result.stderr
    again = invoke(*shown[1].split(), "--json", "-")
    assert 0 < json.loads(again.stdout)["coverage"]["observed_steps"] < 200
    assert Path("out/report.html").exists()


def test_a_crash_of_the_model_leaves_a_recording_that_can_be_shown(here: Path, invoke: Any) -> None:
    write_model(here / "tiny.py", "assert seen != 30, 'my own mistake'")
    result = invoke("analyze", "tiny.py", *SHORT[2:], "--steps", "200", "-o", "out")
    assert result.exit_code == 1
    assert "recorded so far: out/run.precscope" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: tiny.py:10: ")
    assert "my own mistake" in last
    written = json.loads(Path("out/result.json").read_text())
    assert 0 < written["coverage"]["observed_steps"] < 200


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def model(:\n", "syntax error"),
        ("def model(): pass\ndef batches(): return [1]\n", "lacks"),
        (
            "def model(): 1/0\ndef batches(): return [1]\ndef loss(m, b): pass\n",
            "ZeroDivisionError",
        ),
    ],
)
def test_a_model_file_that_cannot_be_used_is_one_line_and_leaves_nothing(
    here: Path, invoke: Any, source: str, said: str
) -> None:
    Path("broken.py").write_text(source)
    result = invoke("analyze", "broken.py", *SHORT, "--quiet")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr
    assert {path.name for path in here.iterdir()} == {"tiny.py", "broken.py"}


@pytest.mark.parametrize("command_name", ["analyze", "train"])
def test_an_unknown_recipe_is_a_usage_error_before_anything_runs(
    here: Path, invoke: Any, command_name: str
) -> None:
    result = invoke(command_name, "tiny.py", "--recipes", "fp17", "--quiet")
    assert result.exit_code == 2
    assert "unknown recipe 'fp17'" in result.stderr
    assert not Path("precscope-runs").exists()


def test_train_alone_writes_a_report_of_its_runs(here: Path, invoke: Any) -> None:
    result = invoke("train", "tiny.py", "--recipes", "bf16", "--steps", "2", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert "Training runs" in result.stdout
    assert re.search(r"^bf16", result.stdout, re.M)


def test_a_terminal_gets_colours_and_its_own_width(
    finished: tuple[Path, Any], environ: dict[str, str]
) -> None:
    code, shown = on_a_terminal(["report", "out"], finished[0], environ)
    assert code == 0
    assert "\x1b[1m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert max(len(line) for line in plain.splitlines() if "─" in line) == 100


def test_a_terminal_gets_a_live_display_that_is_cleared(
    finished: tuple[Path, Any], environ: dict[str, str]
) -> None:
    code, shown = on_a_terminal(["train", "missing.py"], finished[0], environ)
    assert code == 1
    assert "load" in shown
    assert shown.endswith("\x1b[2Kerror: no such file: missing.py\r\n")


def on_a_terminal(args: list[str], cwd: Path, environ: dict[str, str]) -> tuple[int, str]:
    """The exit code, and what a terminal of 100 columns gets to see."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, *args],
        cwd=cwd,
        env=environ | {"TERM": "xterm-256color"},
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    shown = b""
    try:
        while part := os.read(main, 65536):
            shown += part
    except OSError:  # Linux's way to say that the other side was closed
        pass
    os.close(main)
    return process.wait(60), shown.decode()


def test_ctrl_c_typed_while_rendering_ends_at_once(
    finished: tuple[Path, Any], environ: dict[str, str]
) -> None:
    """The signal reaches every process of the terminal's group, as if typed."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ENTRY,
            "train",
            "tiny.py",
            "--recipes=bf16",
            "--steps=2",
            "-o",
            "interrupted",
        ],
        cwd=finished[0],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "precscope: render\n":
            break
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "recorded so far: interrupted/run.precscope" in stderr
    assert stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in stderr
