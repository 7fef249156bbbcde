"""Streams of a first-time user: noisy model files, full disks, closed descriptors, typing errors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from precscope.errors import PrecscopeError
from precscope_cli.streams import put, stdout_kept_free, tell
from tests.cli.conftest import TINY_MODEL, Command, Invoke

NOISE = "import os\nprint('noise from Python')\nos.system('echo noise from a child')\n" + TINY_MODEL


class Full(io.StringIO):
    """A stream on a disk that is full."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_what_a_model_file_prints_does_not_get_into_the_json(here: Path, command: Command) -> None:
    (here / "noisy.py").write_text(NOISE)
    done = command("analyze", "noisy.py", "--steps", "2", "--no-train", "--json", "-", cwd=here)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["title"] == "noisy"
    assert "noise from Python" in done.stderr
    assert "noise from a child" in done.stderr


def test_stdout_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    with stdout_kept_free():
        print("aside")
    print("result")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("result\n", "aside\n")


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(PrecscopeError, match="cannot write the output: No space left on device"):
        put("report")


def test_an_error_that_cannot_be_told_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    tell("error: something")
    assert isinstance(sys.stderr, Full)


def test_a_process_without_stdout_and_stderr(here: Path, environ: dict[str, str]) -> None:
    run = "import sys; del sys.path[0]; from precscope_cli.main import main; main()"
    closed = f'{sys.executable} -c "{run}" report nothing.precscope >&- 2>&-'
    assert (
        subprocess.run(["bash", "-c", closed], cwd=here, env=environ, check=False).returncode == 1
    )


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("analize", "the nearest is analyze"),
        ("tiny.py", "did you mean precscope analyze tiny.py"),
        ("zzz", "No such command 'zzz' (see precscope --help)"),
    ],
)
def test_a_wrong_command_is_told_with_what_was_meant(
    here: Path, invoke: Invoke, typed: str, told: str
) -> None:
    result = invoke(typed)
    assert result.exit_code == 2
    assert told in result.stderr


def test_no_command_is_cut_short_in_the_help(invoke: Invoke) -> None:
    lines = invoke("--help").stdout.partition("Commands:")[2].partition("Examples:")[0]
    cut = [line.split()[0] for line in lines.splitlines() if line.endswith("...")]
    assert cut in ([], ["doctor"])


def test_a_device_is_told_which_there_are(here: Path, invoke: Invoke) -> None:
    assert (
        "is none of auto, cpu, cuda and cuda:N (see"
        in invoke("analyze", "tiny.py", "--device", "gpu").stderr
    )
