"""The checksum of a Recording: right after everything a writer does, wrong after any change."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from precscope.errors import RecordingError
from precscope.recording import Recording, RecordingWriter
from precscope.recording.schema import MAX_STEPS, MAX_WINDOWS
from precscope.recording.seal import SEAL_NAME, row_hash
from precscope.recording.values import Row
from tests.recording import samples

Work = Callable[[RecordingWriter], object]


def _replace_everything(writer: RecordingWriter) -> None:
    writer.update_site(0, replace(samples.site(), autocast_dtype="float16"))
    writer.put_document("runs", [1])
    writer.flush()
    writer.put_document("runs", [2])
    writer.add_step(samples.step(0, loss=2.0))


def _thin_windows(writer: RecordingWriter) -> None:
    for step in range(3 * MAX_WINDOWS):
        writer.add_window(0, samples.window(step))
        writer.add_update(samples.update(step))
        if step % 50 == 0:
            writer.flush()


def _thin_steps(writer: RecordingWriter) -> None:
    for step in range(MAX_STEPS + 10):
        writer.add_step(samples.step(step))
        if step % 1000 == 0:
            writer.flush()


def _odd_numbers(writer: RecordingWriter) -> None:
    writer.add_step(replace(samples.step(1, loss=-0.0), log2_scale=-0.0))
    writer.add_step(samples.step(2, loss=float("nan")))
    writer.add_step(samples.step(3, loss=float("inf")))
    writer.add_site(samples.site("a\0b\u202e🧠\ud800", 1))


@pytest.mark.parametrize(
    "work", [lambda writer: None, _replace_everything, _thin_windows, _thin_steps, _odd_numbers]
)
@pytest.mark.parametrize("is_closed", [True, False])
def test_the_seal_is_right_after_every_flush(tmp_path: Path, work: Work, is_closed: bool) -> None:
    writer = RecordingWriter(tmp_path / "run.precscope", {"title": "net"})
    writer.add_site(samples.site())
    writer.add_window(0, samples.window(0))
    writer.add_step(samples.step(0))
    work(writer)
    writer.close() if is_closed else writer.flush()
    assert Recording.open(writer.path).is_complete == is_closed


def test_a_flush_that_failed_leaves_the_seal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precscope.recording.writer.FLUSH_TIMEOUT_SECONDS", 0.01)
    writer = RecordingWriter(tmp_path / "run.precscope", {})
    writer.add_step(samples.step(0))
    reader = sqlite3.connect(writer.path, isolation_level=None)
    reader.execute("BEGIN EXCLUSIVE")
    assert not writer.flush()
    reader.execute("ROLLBACK")
    reader.close()
    writer.add_step(samples.step(1))
    writer.close()
    assert len(Recording.open(writer.path).steps) == 2


CHANGES = (
    "UPDATE step SET loss = 0.25 WHERE step = 0",
    "UPDATE site_window SET nans = nans + 1",
    "UPDATE site SET module_type = 'Conv2d'",
    "UPDATE document SET value = '[3]'",
    "UPDATE meta SET value = '\"other\"' WHERE name = 'title'",
    "DELETE FROM meta WHERE name = 'precscope:complete'",
    "DELETE FROM step",
    "DELETE FROM update_window",
    "INSERT INTO step VALUES (9, NULL, 0.0, NULL, 0.0)",
)


@pytest.mark.parametrize("statement", CHANGES)
def test_a_change_of_any_value_is_told(tmp_path: Path, statement: str) -> None:
    with RecordingWriter(tmp_path / "run.precscope", {"title": "net"}) as writer:
        writer.add_site(samples.site())
        writer.add_window(0, samples.window(0))
        writer.add_step(samples.step(0))
        writer.add_update(samples.update(0))
        writer.put_document("runs", [2])
    connection = sqlite3.connect(writer.path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(RecordingError, match="its content does not match its checksum"):
        Recording.open(writer.path)


def test_a_recording_from_before_there_was_a_seal_is_read(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "run.precscope", {"title": "net"}) as writer:
        writer.add_step(samples.step(0))
    connection = sqlite3.connect(writer.path)
    connection.execute("DELETE FROM meta WHERE name = ?", (SEAL_NAME,))
    connection.commit()
    connection.close()
    assert Recording.open(writer.path).meta == {"title": "net"}


def test_a_hash_tells_tables_types_and_places_apart() -> None:
    rows: list[tuple[str, Row]] = [
        ("t", (1, 2)),
        ("t", (12,)),
        ("t", ("1", 2)),
        ("t", (1.0, 2)),
        ("t", (None, 2)),
    ]
    rows += [("u", (1, 2)), ("t", (2, 1)), ("t", (b"1", 2)), ("t", ("", "")), ("t", ("",))]
    assert len({row_hash(table, row) for table, row in rows}) == len(rows)


def test_a_forked_child_does_not_touch_the_seal(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "run.precscope", {})
    child = os.fork()
    if not child:
        writer.add_step(samples.step(7))
        writer.close()
        os._exit(0)
    os.waitpid(child, 0)
    writer.add_step(samples.step(1))
    writer.close()
    assert [record.step for record in Recording.open(writer.path).steps] == [1]
