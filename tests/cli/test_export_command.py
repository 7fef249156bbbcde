"""``precscope export``: the tables, the rules for what is missing, and their documentation."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from precscope.export import TABLES
from precscope.export.columns import reference
from precscope.facts import StepRecord
from precscope.recording import RecordingWriter
from tests.support.recordings import site, update_window, window
from tests.support.runs import runs

Invoke = Callable[..., Result]
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
HOSTILE = ('=cmd|"/c calc"!A1', "+1", "-1", "@x", 'a,"b"\nc', "naïve 🧠", "")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.precscope"
    parts: dict[str, Any] = {"peak_memory_bytes": None, "saved_tensor_bytes": 8}
    parts |= dict.fromkeys(("weight_bytes", "gradient_bytes", "optimizer_bytes"), 4)
    losses = [1.0, "NaN", "Infinity"]
    more = {"losses": losses, "log2_scales": [4.0], "skipped_at": [1], "simulated": True, **parts}
    with RecordingWriter(path, {"title": "net"}) as writer:
        for number, name in enumerate(HOSTILE):
            writer.add_site(site(name, "weight_gradient", None, number))
            writer.add_window(number, window((0.0, 1.0, 1.5, 2.0**-30)))
        writer.add_step(StepRecord(0, None, 1.5, 0, 0.0))
        writer.add_step(StepRecord(1, math.nan, 1.5, None, 3.0))
        writer.add_update(update_window("layer.weight", (1.0, 0.5, 0.1)))
        writer.put_document("runs", [made | more for made in runs(fp32=[2.0], fp16=[None])])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tables(run: Path, tmp_path: Path, invoke: Invoke) -> dict[str, list[dict[str, str]]]:
    told = invoke("export", str(run), "--csv", str(tmp_path / "out"))
    assert told.exit_code == 0, told.output
    return {path.stem: read(path) for path in (tmp_path / "out").iterdir()}


def test_every_table_is_written_with_every_column(
    tables: dict[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    assert set(tables) == {table.name for table in TABLES}
    for table in TABLES:
        header = (tmp_path / "out" / f"{table.name}.csv").read_text().split("\n")[0]
        assert header.split(",") == [column.name for column in table.columns]


def test_names_are_exactly_those_of_the_model(tables: dict[str, list[dict[str, str]]]) -> None:
    assert [row["name"] for row in tables["sites"]] == list(HOSTILE)


def test_octaves_add_up_to_the_values(tables: dict[str, list[dict[str, str]]]) -> None:
    counts: dict[str, list[tuple[str, ...]]] = {}
    for row in tables["histograms"]:
        counts.setdefault(row["site_id"], []).append((row["exponent"], row["count"], row["powers"]))
    assert counts["0"] == [("-30", "1", "1"), ("0", "2", "1")]
    assert tables["sites"][0]["zeros"] == "1"
    assert float(tables["sites"][0]["flushed_fp16"]) == pytest.approx(1 / 3)


def test_missing_and_not_finite_are_told_apart(tables: dict[str, list[dict[str, str]]]) -> None:
    assert [row["loss"] for row in tables["steps"]] == ["", "NaN"]
    assert [row["gradient_amax_site_id"] for row in tables["steps"]] == ["0", ""]
    assert [row["loss"] for row in tables["losses"]][:3] == ["1.0", "NaN", "inf"]
    assert [row["log2_scale"] for row in tables["losses"]][:3] == ["4.0", "", ""]
    assert [row["skipped"] for row in tables["losses"]][:3] == ["false", "true", "false"]
    assert [row["diverged_at"] for row in tables["runs"]] == ["", "7"]
    assert tables["sites"][0]["autocast_dtype"] == ""


def test_reals_are_written_with_all_their_digits(tables: dict[str, list[dict[str, str]]]) -> None:
    (parameter,) = tables["parameters"]
    assert float(parameter["retention_0_01"]) == 0.1
    assert float(tables["sites"][0]["sum_abs"]) == 2.5 + 2.0**-30


def test_tables_are_not_replaced_unasked(run: Path, tmp_path: Path, invoke: Invoke) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "sites.csv").write_text("mine")
    (out / "notes.txt").write_text("mine too")
    told = invoke("export", str(run), "--csv", str(out))
    assert told.exit_code == 2
    assert "--overwrite" in told.stderr
    assert (out / "sites.csv").read_text() == "mine"
    assert invoke("export", str(run), "--csv", str(out), "--overwrite", "-q").output == ""
    assert (out / "sites.csv").read_text().startswith("site_id,")
    assert sorted(p.suffix for p in out.iterdir()) == [".csv"] * len(TABLES) + [".txt"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("run.precscope",), 2, "--csv or --parquet"),
        (("nope", "--csv", "out"), 1, "cannot read nope"),
        (("run.precscope", "--csv", "run.precscope"), 2, "is a file"),
        (("run.precscope", "--csv", "run.precscope/x"), 1, "cannot write"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
    args: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(run.parent)
    told = invoke("export", *args)
    assert (told.exit_code, told.stderr.count("\n")) == (code, 1)
    assert said in told.stderr


def test_parquet_without_pyarrow_says_what_to_install(
    run: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = invoke("export", str(run), "--parquet", str(tmp_path / "out"))
    assert told.exit_code == 1
    assert "pip install 'precscope[parquet]'" in told.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is not installed")
def test_parquet_holds_what_csv_holds(
    run: Path,
    tables: dict[str, list[dict[str, str]]],
    tmp_path: Path,
    invoke: Invoke,
) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    out = tmp_path / "parquet"
    assert invoke("export", str(run), "--parquet", str(out)).exit_code == 0
    for table in TABLES:
        found = parquet.read_table(out / f"{table.name}.parquet")
        assert found.num_rows == len(tables[table.name])
        assert found.column_names == [column.name for column in table.columns]
        first = found.schema.field(0).metadata
        assert first[b"meaning"].decode() == table.columns[0].meaning
    names = parquet.read_table(out / "sites.parquet")["name"].to_pylist()
    assert names == list(HOSTILE)
    losses = parquet.read_table(out / "losses.parquet")["loss"].to_pylist()
    assert math.isnan(losses[1])
    assert losses[2] == math.inf


def test_the_documentation_lists_every_column() -> None:
    assert reference().strip() in DOCS.read_text()
