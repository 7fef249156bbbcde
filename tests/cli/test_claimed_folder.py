"""The folder of a run belongs to one run, also when two start at the same moment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from click.testing import CliRunner

from precscope import analysis
from precscope.errors import RecordingError
from precscope_cli.main import cli
from precscope_cli.output import claim_folder

NOW = time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0))
MODEL = """import torch
def model(): return torch.nn.Linear(2, 1)
def batches(): yield torch.ones(1, 2)
def loss(model, batch): return model(batch).sum()
"""


def test_runs_that_start_together_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    together = Barrier(4)

    def claim(_: int) -> Path:
        together.wait()
        return claim_folder(None, "net", NOW)

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(claim, range(4)))
    assert {folder.name.removeprefix("net-20260102-030405") for folder in folders} == {
        *("", "-2", "-3", "-4")
    }


def test_an_empty_folder_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    assert claim_folder(tmp_path, "net", NOW) == tmp_path


def test_the_recording_of_another_run_is_neither_rendered_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def comes_second(workload: object, path: Path, *_: object) -> None:
        path.write_bytes(b"theirs")
        try:
            path.open("xb")
        except FileExistsError:
            raise RecordingError(f"{path} exists: choose another path") from None

    monkeypatch.setattr(analysis, "analyze", comes_second)
    (tmp_path / "net.py").write_text(MODEL)
    folder = tmp_path / "out"
    told = CliRunner().invoke(cli, ["analyze", str(tmp_path / "net.py"), "-o", str(folder)])
    assert told.exit_code == 2
    assert told.stderr.splitlines()[-1].endswith("is another run's: name a new --output")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "run.precscope": b"theirs"
    }
