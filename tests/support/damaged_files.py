"""Recordings that were damaged, swapped or forged: what people and disks hand to a reader.

Of each case the whole command line must make one of two things: the same as of the undamaged file,
or one clear line. Forged cases carry a right checksum, so that what reads the content is tried too.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precscope.analysis import AnalysisOptions, analyze
from precscope.recording.seal import SEAL_NAME, encoded, seal_of
from precscope.recording.series import UPDATES, WINDOWS
from precscope.workload import load_workload
from precscope_cli.progress import Display

MARK = "<b id=precscope-hostile>"
"""A text that stands where a number or a word should; unescaped in a page it would be markup."""


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        group: what sort of damage.
        name: what exactly.
        make: writes it to a path, from the bytes of a good Recording.
        is_forged: whether what it holds is meant to be read, with a right checksum.
    """

    group: str
    name: str
    make: Callable[[bytes, Path], object]
    is_forged: bool = False


MODEL = """
import torch

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

def batches():
    for _ in range(4):
        yield torch.randn(16, 4), torch.randint(2, (16,))

def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

def evaluate(model):
    return {"accuracy": 0.5}
"""


def good_recording(folder: Path) -> Path:
    """A Recording with everything in it that an analysis of a small model records."""
    (folder / "model.py").write_text(MODEL)
    options = AnalysisOptions(steps=8, recipes=("fp32", "advised"), recipe_steps=8, seeds=2)
    path = folder / "run.precscope"
    analyze(load_workload(folder / "model.py"), path, options, "precscope analyze", Display())
    return path


def cases(good: bytes) -> list[Case]:
    """All of them; the same for the same Recording."""
    groups = (
        _flips(len(good)),
        _truncations(len(good)),
        _overwritten(len(good)),
        _foreign(),
        _no_files(),
        _schemas(),
        _values(),
        _forged_rows(),
        _forged_documents(good),
    )
    return [case for group in groups for case in group]


def _flips(size: int) -> Iterator[Case]:
    draw = random.Random(1)
    reaches = [100] * 20 + [4096] * 20 + [size] * 80
    for number, reach in enumerate(reaches):
        bits = [
            (draw.randrange(reach), draw.randrange(8)) for _ in range(draw.choice((1, 1, 1, 8)))
        ]
        yield Case("bit flips", f"{len(bits)} in the first {reach} bytes, {number}", _flip(bits))


def _flip(bits: list[tuple[int, int]]) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        damaged = bytearray(good)
        for place, bit in bits:
            damaged[place] ^= 1 << bit
        path.write_bytes(damaged)

    return make


def _truncations(size: int) -> Iterator[Case]:
    for length in (
        1,
        15,
        16,
        99,
        100,
        511,
        4095,
        4096,
        4097,
        8192,
        size // 2,
        size - 4096,
        size - 1,
    ):
        yield Case("truncations", f"{length} bytes left", _cut(0, length))
    yield Case("truncations", "a page twice", lambda g, p: p.write_bytes(g + g[-4096:]))
    yield Case("truncations", "first page gone", _cut(4096, None))


def _overwritten(size: int) -> Iterator[Case]:
    draw = random.Random(2)
    for number in range(24):
        start, length = draw.randrange(size), draw.choice((1, 8, 64, 512))
        noise = draw.choice((b"\0" * length, b"\xff" * length, draw.randbytes(length)))
        yield Case(
            "overwritten blocks",
            f"{length} bytes at {start}, {number}",
            _paste(start, noise),
        )


def _foreign() -> Iterator[Case]:
    contents = {
        "a Python file": b"import torch\n" * 500,
        "one byte": b"x",
        "zeros": bytes(8192),
        "a zip": _zip(),
        "a pickle": pickle.dumps({"model": [1.0] * 99}),
        "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "a gzip": b"\x1f\x8b\x08" + bytes(500),
        "only SQLite's magic": b"SQLite format 3\0",
        "SQLite's magic and noise": b"SQLite format 3\0" + random.Random(3).randbytes(9000),
        "JSON": b'{"schema": 1, "sites": []}',
        "HTML": b"<!doctype html><script>alert(1)</script>" * 50,
    }
    for name, content in contents.items():
        yield Case("foreign files", name, _instead(content))
    yield Case("foreign files", "another database", _other_database(0))
    yield Case("foreign files", "another database with our id", _other_database(1))


def _zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("data.pkl", "x" * 1000)
    return made.getvalue()


def _other_database(with_id: int) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        connection = sqlite3.connect(path)
        if with_id:
            connection.execute(f"PRAGMA application_id = {int.from_bytes(b'prec', 'big')}")
            connection.execute("PRAGMA user_version = 1")
        connection.execute("CREATE TABLE site (id INTEGER)")
        connection.commit()
        connection.close()

    return make


def _no_files() -> Iterator[Case]:
    made: dict[str, Callable[[bytes, Path], Any]] = {
        "nothing there": lambda g, p: None,
        "no bytes": lambda g, p: p.touch(),
        "a folder": lambda g, p: p.mkdir(),
        "a pipe that nobody writes": lambda g, p: os.mkfifo(p),
        "a link to nothing": lambda g, p: p.symlink_to("nowhere"),
        "a link to itself": lambda g, p: p.symlink_to(p),
        "a link to endless zeros": lambda g, p: p.symlink_to("/dev/zero"),
        "a link to the terminal": lambda g, p: p.symlink_to("/dev/tty"),
        "a link to a pipe": _link_to_pipe,
        "a folder of that name inside": lambda g, p: (p / "run.precscope").mkdir(parents=True),
        "a folder with a pipe in it": _folder_with_pipe,
        "a link to a good file": _link_to_good,
    }
    for name, make in made.items():
        yield Case("no files", name, make)


def _link_to_pipe(good: bytes, path: Path) -> None:
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


def _folder_with_pipe(good: bytes, path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "run.precscope")


def _link_to_good(good: bytes, path: Path) -> None:
    path.with_suffix(".real").write_bytes(good)
    path.symlink_to(path.with_suffix(".real"))


ENDLESS = """
AS WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless)
SELECT n, 0.0, 0.0, 0, 0.0 FROM endless
"""

SCHEMAS = (
    ("PRAGMA user_version = 0",),
    ("PRAGMA user_version = 99",),
    ("PRAGMA application_id = 7",),
    ("DROP TABLE step",),
    ("DROP TABLE site",),
    ("DROP TABLE meta",),
    ("DROP INDEX window_of_site",),
    ("CREATE TABLE extra (id INTEGER)",),
    ("ALTER TABLE step ADD COLUMN more TEXT",),
    ("ALTER TABLE site RENAME COLUMN name TO name2",),
    ("DROP TABLE step", f"CREATE VIEW step {ENDLESS}"),
    ("CREATE VIEW v AS SELECT * FROM site",),
    ("CREATE TRIGGER t AFTER INSERT ON step BEGIN DELETE FROM step; END",),
    ("ALTER TABLE site ADD COLUMN g TEXT GENERATED ALWAYS AS (name || name)",),
    ("CREATE VIRTUAL TABLE v USING fts5(x)",),
    ("CREATE INDEX i ON site (length(hex(name)))",),
    ("ALTER TABLE step RENAME TO old", "ALTER TABLE site RENAME TO step"),
    ("PRAGMA writable_schema = 1", "UPDATE sqlite_master SET rootpage = 2"),
    ("PRAGMA writable_schema = 1", "UPDATE sqlite_master SET rootpage = 9999"),
    ("PRAGMA writable_schema = 1", "UPDATE sqlite_master SET sql = 'CREATE TABLE x (y)'"),
)


def _schemas() -> Iterator[Case]:
    for statements in SCHEMAS:
        yield Case("schemas", "; ".join(statements)[:100], _changed(statements))


VALUES = (
    "UPDATE site SET kind = 'elsewhere'",
    "UPDATE site SET id = 99 WHERE id = 3",
    "UPDATE site SET name = 'another' WHERE id = 0",
    "UPDATE site SET name = NULL WHERE id = 0",
    "UPDATE site SET name = x'ff' WHERE id = 0",
    "UPDATE site SET name = printf('%.*c', 70000, 'a') WHERE id = 0",
    "UPDATE site SET shape = '[[['",
    "UPDATE site SET shape = '[1e999]'",
    "UPDATE site SET dtype = 7",
    "DELETE FROM site WHERE id = 0",
    "DELETE FROM site_window WHERE id = 2",
    "DELETE FROM step WHERE step = 1",
    "DELETE FROM document WHERE name = 'environment'",
    "DELETE FROM update_window",
    f"INSERT INTO site_window SELECT id + 999999, {', '.join(WINDOWS.columns)} FROM site_window",
    "UPDATE site_window SET zeros = zeros + 1 WHERE id = 1",
    "UPDATE site_window SET zeros = -1",
    "UPDATE site_window SET zeros = 'many'",
    "UPDATE site_window SET nans = 9223372036854775807",
    "UPDATE site_window SET amax = 9e999",
    "UPDATE site_window SET amax = 'nan'",
    "UPDATE site_window SET amax = amax * 2 WHERE id = 1",
    "UPDATE site_window SET sum_abs = -1.0",
    "UPDATE site_window SET octaves = zeroblob(100000000) WHERE id = 1",
    "UPDATE site_window SET octaves = NULL",
    "UPDATE site_window SET octaves = x'0000010001ff00'",
    "UPDATE site_window SET site = 99 WHERE id = 1",
    "UPDATE site_window SET first_step = 7, last_step = 3",
    "UPDATE step SET loss = 'high'",
    "UPDATE step SET loss = loss + 1",
    "UPDATE step SET log2_scale = 9e999",
    "UPDATE step SET gradient_amax = -1.0",
    "UPDATE step SET gradient_amax_site = 4096",
    "UPDATE update_window SET parameter = NULL",
    "UPDATE update_window SET parameter = 'another' WHERE id = 1",
    "UPDATE update_window SET learning_rate = 'fast'",
    "UPDATE update_window SET sums = x'ff01'",
    "UPDATE update_window SET sums = NULL",
    "UPDATE meta SET value = NULL",
    "UPDATE meta SET value = '\"another\"' WHERE name = 'title'",
    "UPDATE document SET value = printf('%.*c', 200000, '[')",
    "UPDATE document SET value = printf('%.*c', 500, '[') || printf('%.*c', 500, ']')",
    "UPDATE document SET value = '\"\\ud800\"'",
    "UPDATE document SET value = '{' WHERE name = 'runs'",
    "UPDATE document SET value = zeroblob(10)",
)


def _values() -> Iterator[Case]:
    for statement in VALUES:
        yield Case("values, old checksum", statement[:100], _changed((statement,)))


FORGED = (
    "UPDATE site_window SET amax = 0.0, sum_abs = 0.0, octaves = x'000000000101'",
    "UPDATE site_window SET sum_abs = 9e999, sum_squares = 9e999",
    "UPDATE site_window SET nans = 36028797018963968",
    "UPDATE site_window SET amax = 1.7e308",
    "UPDATE site_window SET observations = 9007199254740992",
    "DELETE FROM site_window",
    "DELETE FROM step",
    "DELETE FROM update_window",
    "DELETE FROM document",
    "DELETE FROM meta",
    "UPDATE step SET loss = 'nan'",
    "UPDATE step SET loss = 9e999",
    "UPDATE step SET gradient_amax = 1.7e308",
    "UPDATE step SET log2_scale = 1.7e308",
    "UPDATE step SET log2_scale = -1e300",
    "UPDATE step SET step = step + 9007199254740000",
    "UPDATE update_window SET learning_rate = 'nan'",
    "UPDATE update_window SET below_2_24 = 9007199254740992",
    f"UPDATE site SET name = '{MARK}' || name",
    f"UPDATE site SET dtype = '{MARK}', module_type = '{MARK}', autocast_dtype = '{MARK}'",
    "UPDATE site SET autocast_dtype = 'float64'",
    "UPDATE site SET shape = '[9007199254740992,9007199254740992]'",
    "UPDATE site SET site_order = 0",
    f"UPDATE meta SET value = '\"{MARK}\"' WHERE name = 'title'",
    "UPDATE meta SET value = '7' WHERE name = 'title'",
)


def _forged_rows() -> Iterator[Case]:
    for statement in FORGED:
        yield Case("forged rows", statement[:100], _changed((statement,), True), is_forged=True)


WRONG: tuple[Any, ...] = (None, True, -7, 1e300, MARK, [], {}, [None], [[7]], {MARK: MARK})


def _forged_documents(good: bytes) -> Iterator[Case]:
    documents = _documents(good)
    for name in documents:
        for wrong in WRONG:
            statement = f"{name} = {json.dumps(wrong)[:20]}"
            yield Case("forged documents", statement, _with(name, wrong), is_forged=True)
    for name, value in documents.items():
        for path in sorted(set(_leaves(value)), key=str):
            for wrong in (MARK, None, -(2.0**70)):
                statement = f"{name}{path} = {wrong}"
                replaced = _replaced(value, path, wrong)
                yield Case("forged leaves", statement, _with(name, replaced), is_forged=True)


def _documents(good: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "good")
        path.write_bytes(good)
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT name, value FROM document ORDER BY name").fetchall()
        connection.close()
    return {name: json.loads(value) for name, value in rows}


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The kinds of places in a document: keys stand for themselves, ``*`` for every list index."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for item in value[:2]:
            yield from _leaves(item, (*path, "*"))
    else:
        yield path


def _replaced(value: Any, path: tuple[str, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    if isinstance(value, list):
        return [_replaced(item, path[1:], wrong) for item in value]
    if isinstance(value, dict) and path[0] in value:
        return {**value, path[0]: _replaced(value[path[0]], path[1:], wrong)}
    return value


def _with(name: str, value: Any) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        path.write_bytes(good)
        connection = sqlite3.connect(path)
        told = (json.dumps(value), name)
        connection.execute("UPDATE document SET value = ? WHERE name = ?", told)
        _reseal(connection)

    return make


def _changed(statements: tuple[str, ...], reseal: bool = False) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        path.write_bytes(good)
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        if reseal:
            _reseal(connection)
        connection.close()

    return make


def _reseal(connection: sqlite3.Connection) -> None:
    """Give a changed Recording the checksum of what it holds now."""
    queries = {
        "meta": f"SELECT name, value FROM meta WHERE name != '{SEAL_NAME}'",
        "document": "SELECT name, value FROM document",
        "site": "SELECT * FROM site",
        "step": "SELECT * FROM step",
        WINDOWS.table: WINDOWS.select,
        UPDATES.table: UPDATES.select,
    }
    total = seal_of((table, connection.execute(query)) for table, query in queries.items())
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (SEAL_NAME, encoded(total)))
    connection.commit()
    connection.close()


def _cut(start: int, end: int | None) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        path.write_bytes(good[start:end])

    return make


def _paste(start: int, noise: bytes) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        path.write_bytes(good[:start] + noise + good[start + len(noise) :])

    return make


def _instead(content: bytes) -> Callable[[bytes, Path], None]:
    def make(good: bytes, path: Path) -> None:
        path.write_bytes(content)

    return make
