"""A folder named by --output is one run's from its start, long before a Recording lies in it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from precscope_cli.folder_lock import lock_folder
from precscope_cli.main import cli
from precscope_cli.output import claim_folder

fcntl = pytest.importorskip("fcntl")
NOW = time.struct_time((2026, 1, 2, 3, 4, 5, 4, 2, 0))


@pytest.fixture
def of_another_run(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a run has begun; another process's lock is another description."""
    folder = tmp_path / "out"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield folder
    os.close(descriptor)


def test_a_script_is_not_run_into_the_folder_of_another_run(
    of_another_run: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    told = CliRunner().invoke(cli, ["analyze", str(script), "-o", str(of_another_run)])
    assert told.exit_code == 2
    assert told.stderr.splitlines()[-1].endswith("is another run's: name a new folder")
    assert of_another_run.is_dir()
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_ours_as_often_as_we_ask_and_free_once_its_run_is_gone(
    of_another_run: Path, tmp_path: Path
) -> None:
    assert not lock_folder(of_another_run)
    own = tmp_path / "own"
    assert claim_folder(own, "net", NOW) == claim_folder(own, "net", NOW) == own
    assert not list(own.iterdir())


def test_the_lock_of_a_run_ends_with_it(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert not lock_folder(tmp_path)
    os.close(descriptor)
    assert lock_folder(tmp_path)
