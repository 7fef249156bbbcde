"""Files that a user may hand over by mistake, and files made to do harm."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from precscope.errors import RecordingError
from precscope.recording import Recording, RecordingWriter
from precscope.recording.octaves import MAX_TOTAL
from tests.recording import samples

ENDLESS_VIEW = """
CREATE VIEW step AS
WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT n FROM endless)
SELECT n, 0.0, 0.0, 0, 0.0 FROM endless
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "run.precscope"
    with RecordingWriter(path, {"model": "net"}) as writer:
        for index in range(12):
            site = writer.add_site(samples.site(f"layer{index}", index))
            for step in range(20):
                writer.add_window(site, samples.window(step, seed=step))
        for step in range(50):
            writer.add_step(samples.step(step))
            writer.add_update(samples.update(step))
        writer.put_document("coverage", {"names": [f"module{i}" for i in range(500)]})
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.precscope"


def open_or_one_line(path: Path) -> Recording | str:
    """What every file must give: a readable Recording or one line, never another exception."""
    try:
        recording = Recording.open(path)
        for site_id in range(len(recording.sites)):
            assert recording.histogram(site_id).total >= 0
    except RecordingError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        return message
    return recording


def refusal(path: Path) -> str:
    answer = open_or_one_line(path)
    assert isinstance(answer, str)
    return answer


def change(path: Path, good: bytes, *statements: str) -> None:
    path.write_bytes(good)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_a_truncated_file_is_refused_or_read_at_every_length(path: Path, good: bytes) -> None:
    lengths = [*range(1, 200, 9), *range(200, len(good), 997), len(good) - 1]
    answers = []
    for length in lengths:
        path.write_bytes(good[:length])
        answers.append(open_or_one_line(path))
    assert all(isinstance(answer, str) for answer in answers)


def test_flipped_bits_never_raise_anything_else(path: Path, good: bytes) -> None:
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(draw.choice([1, 1, 4, 64])):
            # Half of them where they hurt: the header and the first pages.
            reach = draw.choice([len(good), 100, 8192])
            damaged[draw.randrange(reach)] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(damaged))
        refused += isinstance(open_or_one_line(path), str)
    assert 50 < refused < 300


def test_overwritten_blocks_never_raise_anything_else(path: Path, good: bytes) -> None:
    draw = random.Random(1)
    refused = 0
    for _ in range(100):
        start = draw.randrange(len(good))
        length = draw.randrange(1, 600)
        path.write_bytes(good[:start] + draw.randbytes(length) + good[start + length :])
        refused += isinstance(open_or_one_line(path), str)
    assert refused > 0


def test_what_is_not_a_file_is_named(tmp_path: Path, path: Path) -> None:
    assert refusal(path) == f"cannot read {path}: No such file or directory"
    assert "is a folder without a Recording" in refusal(tmp_path)
    assert refusal(path / "under-a-missing-one").startswith("cannot read")
    assert "null" in refusal(Path("a\0b"))
    path.touch()
    assert "is empty" in refusal(path)


@pytest.mark.parametrize("content", [b"import torch\n" * 500, b"x", b"\0" * 4096, b"PK\3\4" * 99])
def test_a_foreign_file_is_not_a_recording(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refusal(path) == f"{path} is not a precscope Recording"


def test_a_foreign_database_is_not_a_recording(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE site (id INTEGER)")
    connection.commit()
    connection.close()
    assert refusal(path) == f"{path} is not a precscope Recording"


def test_a_newer_schema_asks_for_an_upgrade(path: Path, good: bytes) -> None:
    change(path, good, "PRAGMA user_version = 2")
    assert refusal(path) == f"{path} was written by a newer precscope: upgrade precscope"


@pytest.mark.parametrize(
    "statements",
    [
        ["PRAGMA user_version = 0"],
        ["DROP TABLE step"],
        ["CREATE TABLE extra (id INTEGER)"],
        ["ALTER TABLE step ADD COLUMN more TEXT"],
        ["DROP TABLE step", ENDLESS_VIEW],
        ["CREATE TRIGGER t AFTER INSERT ON step BEGIN DELETE FROM step; END"],
    ],
)
def test_a_schema_that_is_not_ours_is_refused_unread(
    path: Path, good: bytes, statements: list[str]
) -> None:
    change(path, good, *statements)
    assert refusal(path) == f"{path} is damaged: its tables are not those of a Recording"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE site SET kind = 'elsewhere' WHERE id = 0",
        "UPDATE site SET id = 99 WHERE id = 3",
        "UPDATE site SET shape = '[[[' WHERE id = 0",
        "UPDATE site SET shape = '[true]' WHERE id = 0",
        "UPDATE site SET shape = '[-1]' WHERE id = 0",
        "UPDATE site SET name = x'ff' WHERE id = 0",
        "UPDATE site SET name = CAST(x'ff' AS TEXT) WHERE id = 0",
        "UPDATE site SET name = printf('%.*c', 70000, 'a') WHERE id = 0",
        "UPDATE site_window SET site = 99 WHERE id = 1",
        "UPDATE site_window SET site = NULL WHERE id = 1",
        "UPDATE site_window SET site = 0",
        "UPDATE site_window SET amax = 9e999 WHERE id = 1",
        "UPDATE site_window SET amax = 'nan' WHERE id = 1",
        "UPDATE site_window SET amax = -1.0 WHERE id = 1",
        "UPDATE site_window SET zeros = -1 WHERE id = 1",
        "UPDATE site_window SET zeros = 9223372036854775807 WHERE id = 1",
        "UPDATE site_window SET last_step = -1 WHERE id = 1",
        "UPDATE site_window SET octaves = zeroblob(1000000) WHERE id = 1",
        "UPDATE site_window SET octaves = 7 WHERE id = 1",
        "UPDATE step SET gradient_amax_site = 12 WHERE step = 1",
        "UPDATE step SET step = -5 WHERE step = 1",
        "UPDATE step SET log2_scale = 9e999 WHERE step = 1",
        "UPDATE step SET loss = 'high' WHERE step = 1",
        "UPDATE update_window SET sums = x'ff01' WHERE id = 1",
        "UPDATE update_window SET parameter = NULL WHERE id = 1",
        "UPDATE update_window SET sums = NULL WHERE id = 1",
        "UPDATE document SET value = printf('%.*c', 200000, '[')",
        "UPDATE document SET value = '\"\\ud800\"'",
        "UPDATE meta SET value = NULL",
    ],
)
def test_a_value_out_of_bounds_is_refused(path: Path, good: bytes, statement: str) -> None:
    change(path, good, statement)
    assert refusal(path).startswith(f"{path} is damaged: ")


def test_a_locked_file_asks_to_try_again(
    path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("precscope.recording.schema.READ_TIMEOUT_SECONDS", 0.01)
    path.write_bytes(good)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("DELETE FROM step")
    assert Path(f"{path}-journal").exists()
    assert refusal(path) == f"{path} is locked by another process: try again"
    writer.close()
    assert isinstance(open_or_one_line(path), Recording)


def test_the_bounds_of_the_codec_leave_room_for_a_full_series() -> None:
    assert MAX_TOTAL * 128 < 2**63
