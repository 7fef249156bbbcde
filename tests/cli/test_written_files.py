"""Where results are written: links, pipes, long names, and files that must stay as they are."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from precscope.export import csv_files
from precscope.facts import StepRecord
from precscope.recording import RecordingWriter
from precscope_cli.output import choose_folder
from precscope_reports.files import write_whole
from tests.cli.conftest import Invoke, StandIn
from tests.support.recordings import site, window


@pytest.fixture
def run(here: Path) -> Path:
    """``run.precscope`` in the working directory."""
    with RecordingWriter(here / "run.precscope", {"title": "net"}) as writer:
        number = writer.add_site(site("layer.weight", "weight_gradient", "float16"))
        writer.add_window(number, window((1.0, 2.0**-30)))
        writer.add_step(StepRecord(0, 1.0, 1.0, number, 0.0))
    return Path("run.precscope")


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    for text in ("made", "replaced"):
        write_whole(link, text)
        assert link.is_symlink()
        assert real.read_text() == text


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    private = tmp_path / "private.json"
    private.write_text("before")
    private.chmod(0o600)
    write_whole(private, "after")
    assert (private.read_text(), private.stat().st_mode & 0o777) == ("after", 0o600)


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_whole(tmp_path / "new", "text")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_whole(pipe, "text")
    reader.join(10)
    assert read == ["text"]
    assert pipe.is_fifo()


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_whole(tmp_path / ("a" * 255), "text")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html").write_text("before")
    monkeypatch.setattr(Path, "replace", _disk_is_full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "page.html", "after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report run.precscope -o both --json both", "both is the page already"),
        ("compare run.precscope run.precscope -o both --json both", "both is the page already"),
        ("report run.precscope -o pages/", "pages/ is a folder: name a file"),
        ("report run.precscope --json pages/", "pages/ is a folder: name a file"),
        ("compare run.precscope run.precscope -o pages/", "pages/ is a folder: name a file"),
        ("check run.precscope --fail-on overflow>0 --junit xml/", "xml/ is a folder: name a file"),
        ("check run.precscope --fail-on overflow>0 --junit run.precscope", "is what is checked"),
        ("check tiny.py --fail-on overflow>0 --junit tiny.py", "is what is checked"),
    ],
)
def test_a_target_that_would_be_lost_is_refused(
    run: Path, invoke: Invoke, line: str, said: str
) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = invoke(*line.split())
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert said in result.stderr
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("option", ["report {} -o", "export run.precscope --csv", "train {} -o"])
def test_an_empty_path_is_told_not_taken_for_this_folder(
    run: Path, invoke: Invoke, option: str
) -> None:
    result = invoke(*option.format("tiny.py").split(), "")
    assert result.exit_code == 2
    assert "the path is empty" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "analyze tiny.py --json tiny.py",
        "analyze tiny.py --recipe mine.json --json mine.json",
        "train tiny.py -o out --json out/run.precscope",
        "train tiny.py -o out --json out/report.html",
    ],
)
def test_the_json_is_not_written_over_what_the_run_reads_or_writes(
    library: StandIn, here: Path, invoke: Invoke, line: str
) -> None:
    (here / "out").mkdir()
    result = invoke(*line.split())
    assert (result.exit_code, library.calls) == (2, []), result.stderr
    assert "choose another file to write" in result.stderr


def test_the_json_may_be_the_result_itself(library: StandIn, here: Path, invoke: Invoke) -> None:
    (here / "out").mkdir()
    assert invoke("train", "tiny.py", "-o", "out", "--json", "out/result.json").exit_code == 0


def test_a_long_name_of_a_model_makes_a_folder(here: Path) -> None:
    folder = choose_folder(None, "🧠" * 200, time.gmtime(0))
    folder.mkdir(parents=True)
    assert folder.name.endswith("-19700101-000000")


def test_a_path_that_the_system_refuses_is_told_by_its_name(run: Path, invoke: Invoke) -> None:
    result = invoke("export", str(run), "--csv", "b" * 300)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: cannot use {'b' * 300}")
    assert "Errno" not in result.stderr


def test_a_full_disk_leaves_no_folder_of_the_export(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "write_csv", _after(3, csv_files.write_csv))
    result = invoke("export", str(run), "--csv", "some/where")
    assert result.exit_code == 1
    assert result.stderr == "error: cannot write to some/where: No space left on device\n"
    assert not Path("some").exists()


def test_a_full_disk_leaves_what_was_in_the_folder(
    run: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine").mkdir()
    monkeypatch.setattr(csv_files, "write_csv", _after(3, csv_files.write_csv))
    assert invoke("export", str(run), "--csv", "mine/new").exit_code == 1
    assert list(Path("mine").iterdir()) == []


def _disk_is_full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _after(tables: int, write: Callable[..., int]) -> Callable[..., int]:
    """``write`` until the disk is full after so many tables."""
    left = iter(range(tables))

    def limited(*given: Any) -> int:
        if next(left, None) is None:
            _disk_is_full()
        return write(*given)

    return limited
