"""``precscope watch`` beside real trainings that start, end, die and come back."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from precscope.facts import StepRecord, Window
from precscope.recording import RecordingWriter
from precscope_cli import live_reader
from precscope_cli.live_reader import LiveReader
from precscope_reports.terminal.live import spark
from tests.support.recordings import site, window

Invoke = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]

WATCH = "from precscope_cli.main import main; main()"
TRAINING = """
import sys, time, torch, precscope
from precscope.monitor import ledger
ledger.FLUSH_SECONDS = 0.05
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with precscope.watch(model, optimizer, path=sys.argv[1], every=1, overwrite=True) as watch:
    for step in range(int(sys.argv[2])):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        watch.monitor.record_loss(loss)
        loss.backward()
        optimizer.step()
        time.sleep(0.01)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run.precscope"


def record(path: Path, steps: int = 4, complete: bool = True, title: str = "net") -> None:
    """A short training, made by hand; overwrites."""
    writer = RecordingWriter(path, {"title": title}, overwrite=True)
    writer.put_document("environment", {"created": f"2026-01-01T00:00:0{steps % 10}+00:00"})
    number = writer.add_site(site("layer.weight", "weight_gradient", "float16"))
    writer.add_window(number, Window(0, 3, 4, window((1.0, 2.0**-30)).histogram))
    for step in range(steps):
        writer.add_step(StepRecord(step, 2.0 - step / 10, 1.0, number, 10.0))
    writer.put_document("non_finite", {"count": 2, "skipped": 2, "steps": []})
    writer.close() if complete else writer.flush()


def test_once_shows_one_frame(run: Path, invoke: Invoke) -> None:
    record(run)
    told = invoke("watch", str(run), "--once")
    assert told.exit_code == 0
    for part in ("ended", "step       3", "loss       1.7", "2^10", "layer.weight", "2 updates"):
        assert part in told.stdout, part
    assert "\x1b" not in told.stdout
    assert max(map(len, told.stdout.splitlines()[1:])) <= 80


@pytest.mark.parametrize("content", [None, b"", b"import torch\n"])
def test_once_without_a_recording_is_an_error_of_one_line(
    run: Path, invoke: Invoke, content: bytes | None
) -> None:
    if content is not None:
        run.write_bytes(content)
    told = invoke("watch", str(run), "--once")
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert str(run) in told.stderr


@pytest.mark.parametrize("interval", ["nan", "inf", "0", "-1"])
def test_an_interval_that_cannot_be_waited_for_is_refused(
    run: Path, invoke: Invoke, interval: str
) -> None:
    told = invoke("watch", str(run), "--interval", interval)
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1)
    assert "--interval" in told.stderr


def test_the_reader_tells_every_state_of_a_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LiveReader(run)
    assert reader.look().state == "waiting"
    run.touch()
    assert reader.look().state == "waiting"
    record(run, 0, complete=False)
    assert reader.look().state == "empty"
    record(run, 0, complete=False)
    record(run, 4, complete=False)
    assert reader.look().state == "recording"
    monkeypatch.setattr(live_reader, "SILENT_AFTER_SECONDS", -1.0)
    assert reader.look().state == "silent"
    record(run, 5)
    ended = reader.look()
    assert (ended.state, len(ended.steps), ended.skipped) == ("ended", 5, 2)
    run.write_bytes(run.read_bytes()[:5000])
    damaged = reader.look()
    assert damaged.state == "unreadable"
    assert "damaged" in damaged.reason
    assert damaged.result == ended.result
    run.unlink()
    assert reader.look().state == "waiting"


def test_a_file_that_is_replaced_is_a_restart(run: Path) -> None:
    reader = LiveReader(run)
    record(run, 3)
    assert reader.look().restarts == 0
    assert reader.look().restarts == 0
    record(run, 2, title="other")
    seen = reader.look()
    assert seen.restarts == 1
    assert seen.result is not None
    assert seen.result["title"] == "other"


def test_an_unchanged_file_is_read_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(run)
    reader = LiveReader(run)
    reads, opened = [], live_reader._opened

    def counted(path: Path) -> Any:
        reads.append(path)
        return opened(path)

    monkeypatch.setattr(live_reader, "_opened", counted)
    assert [reader.look().news for _ in range(3)] == [1, 1, 1]
    assert len(reads) == 1


def test_a_locked_file_is_told_and_tried_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("precscope.recording.schema.READ_TIMEOUT_SECONDS", 0.01)
    record(run)
    reader = LiveReader(run)
    writer = sqlite3.connect(run, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    locked = reader.look()
    assert locked.state == "unreadable"
    assert "locked" in locked.reason
    writer.execute("ROLLBACK")
    writer.close()
    assert reader.look().state == "ended"


def test_a_line_of_blocks_goes_from_the_smallest_to_the_largest() -> None:
    assert spark([1.0, 2.0, None, 8.0, float("nan")], ascii_only=False) == "▁▂ █!"
    assert spark([], ascii_only=False) == ""
    assert spark([3.0] * 100, ascii_only=True) == "." * 48
    assert spark([float("inf"), 1e308, -1e308], ascii_only=True)[0] == "!"


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start ``python -c CODE ARGS``, its output in a pipe; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-c", code, *map(str, args)]
        process = subprocess.Popen(
            command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if part in line:
            return line
        assert line, f"ended before it said {part!r}"
    raise AssertionError(f"never said {part!r}")


def test_a_training_that_is_killed_and_restarted_is_followed_to_its_end(
    run: Path, start: Start
) -> None:
    view = start(WATCH, "watch", run, "--until-end", "--interval", "0.05")
    wait_for_line(view, "waiting for the file")
    first = start(TRAINING, run, 100_000)
    wait_for_line(view, "recording, step")
    first.send_signal(signal.SIGKILL)
    first.wait()
    start(TRAINING, run, 60)
    last = wait_for_line(view, "ended")
    assert "step 59" in last
    assert "1 restart" in last
    assert view.wait(20) == 0


def test_ctrl_c_ends_the_view_and_not_the_training(run: Path, start: Start) -> None:
    record(run, complete=False)
    view = start(WATCH, "watch", run, "--interval", "0.05")
    wait_for_line(view, "step 3")
    view.send_signal(signal.SIGINT)
    assert view.wait(20) == 0


def test_a_view_whose_reader_goes_away_ends(run: Path, start: Start) -> None:
    record(run, complete=False)
    view = start(WATCH, "watch", run, "--interval", "0.05")
    wait_for_line(view, "step 3")
    assert view.stdout is not None
    view.stdout.close()
    record(run, 5)
    assert view.wait(20) == 0
    view.stdout = None


def test_a_terminal_gets_a_screen_that_is_redrawn(run: Path, environ: dict[str, str]) -> None:
    record(run, 4, complete=False)
    process, terminal = pty.fork()
    if process == 0:
        command = [sys.executable, "-c", WATCH, "watch", str(run), "--interval", "0.05"]
        os.execve(sys.executable, command, environ | {"TERM": "xterm-256color", "COLUMNS": "80"})
    shown = _until(terminal, "riskiest sites")
    record(run, 7)
    shown += _until(terminal, "ended")
    os.write(terminal, b"\x03")
    _drain(terminal)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "\x1b[2K" in shown
    assert "layer.weight" in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


def _drain(terminal: int) -> None:
    """Read until the process is gone: one that cannot write does not end."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0] and not os.read(terminal, 65536):
                return
        raise AssertionError("Ctrl-C did not end the view")


def _until(terminal: int, part: str) -> str:
    shown, deadline = "", time.monotonic() + 60
    while part not in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
