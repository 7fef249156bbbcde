"""Processes that die while they write, and processes that read while another one writes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from precscope.errors import RecordingError
from precscope.recording import Recording, schema
from tests.recording import samples

WRITE_FOREVER = """
import sys
from precscope.recording import RecordingWriter
from tests.recording import samples
writer = RecordingWriter(sys.argv[1], {"pid": 1})
sites = [writer.add_site(samples.site(f"layer{i}", i)) for i in range(8)]
window = samples.histogram(1)
step = 0
while True:
    for site in sites:
        writer.add_window(site, samples.window(step, seed=1))
    writer.add_step(samples.step(step))
    if writer.flush():
        print(step, flush=True)
    step += 1
"""

DIE_IN_A_TRANSACTION = """
import os, signal, sys
from pathlib import Path
from precscope.recording import RecordingWriter, schema
from tests.recording import samples
writer = RecordingWriter(sys.argv[1], {"pid": 1})
site = writer.add_site(samples.site())
for step in range(100):
    writer.add_window(site, samples.window(step, seed=step))
writer.flush()
connection = schema.connect_to_write(writer.path, 1.0, durable=False)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE site_window SET octaves = zeroblob(300)")
connection.execute("UPDATE site_window SET amax = -1.0")
os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.precscope"


@pytest.fixture
def running(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has flushed three times and goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOREVER, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def last_flushed_step(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    lines = [line for line in process.stdout.read().splitlines() if line]
    return int(lines[-1])


def check_sound(recording: Recording) -> int:
    """Every flush is whole: each site has seen what the others have. Returns the steps."""
    observed = [sum(w.observations for w in recording.windows(i)) for i in range(8)]
    assert len(set(observed)) == 1
    assert (recording.histogram(0).counts == samples.histogram(1).counts * observed[0]).all()
    assert recording.steps[-1].step == observed[0] - 1
    return observed[0]


def test_a_killed_process_leaves_all_it_had_flushed(
    running: subprocess.Popen[str], path: Path
) -> None:
    time.sleep(0.3)
    running.send_signal(signal.SIGKILL)
    running.wait()
    recording = Recording.open(path)
    assert check_sound(recording) >= last_flushed_step(running) + 1
    assert not recording.is_complete


def test_a_second_process_reads_live(running: subprocess.Popen[str], path: Path) -> None:
    seen = []
    for _ in range(10):
        seen.append(check_sound(Recording.open(path)))
        time.sleep(0.02)
    assert running.poll() is None
    assert seen == sorted(seen)
    assert seen[-1] > seen[0] >= 3


def test_a_half_written_transaction_is_undone_without_touching_the_file(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIE_IN_A_TRANSACTION, path], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = Path(f"{path}-journal")
    before = (path.read_bytes(), journal.read_bytes())
    assert bytes(300) in before[0], "the transaction must have reached the file"
    recording = Recording.open(path)
    assert [w.histogram.zeros for w in recording.windows(0)] == [
        samples.histogram(step).zeros for step in range(100)
    ]
    assert (path.read_bytes(), journal.read_bytes()) == before


def test_a_journal_that_names_another_file_is_refused(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIE_IN_A_TRANSACTION, path], check=False)
    assert done.returncode == -signal.SIGKILL
    victim = path.parent / "victim"
    victim.write_bytes(b"run.precscope-journal\0")
    name = str(victim).encode()
    tail = len(name).to_bytes(4, "big") + (sum(name) & 0xFFFFFFFF).to_bytes(4, "big")
    magic = bytes.fromhex("d9d505f920a163d7")
    with Path(f"{path}-journal").open("ab") as journal:
        journal.write(schema.SCHEMA_VERSION.to_bytes(4, "big") + name + tail + magic)
    with pytest.raises(RecordingError, match="refers to another file"):
        Recording.open(path)
    assert victim.exists()
