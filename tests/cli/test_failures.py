"""Files that cannot be used, and runs that end early. The library is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from precscope.errors import RecordingError, UsageError, WorkloadError


def last_line(result: Any) -> str:
    return str(result.stderr.splitlines()[-1])


def test_a_missing_file_is_one_line_and_leaves_nothing(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "missing.py", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == "error: no such file: missing.py\n"
    assert not Path("precscope-runs").exists()


def test_a_folder_with_files_in_it_is_not_written_into(library: Any, invoke: Any) -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("do not touch")
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 2
    assert result.stderr == "error: --output out is not empty: name a new folder\n"
    assert not library.calls


def test_an_empty_folder_is_used(library: Any, invoke: Any) -> None:
    Path("out").mkdir()
    assert invoke("analyze", "tiny.py", "-o", "out").exit_code == 0


def test_a_file_is_no_output_folder(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py", "-o", "tiny.py")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --output tiny.py is a file: name a folder\n",
    )


def test_an_output_below_a_file_is_refused_before_the_work(library: Any, invoke: Any) -> None:
    result = invoke("analyze", "tiny.py", "-o", "tiny.py/out")
    assert result.exit_code == 1
    assert "cannot write to --output tiny.py/out" in result.stderr
    assert not library.calls


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_before_the_work(library: Any, invoke: Any) -> None:
    Path("fixed").mkdir(mode=0o500)
    result = invoke("analyze", "tiny.py", "-o", "fixed/out")
    assert (result.exit_code, library.calls) == (1, [])
    assert "no permission" in result.stderr


def test_without_permission_the_output_is_refused(
    library: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert (result.exit_code, library.calls) == (1, [])
    assert "error: cannot write to --output out: no permission to write to" in result.stderr


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [("no/such/copy.json", 1, "no folder"), (".", 2, "is a folder")],
)
def test_an_unwritable_json_is_refused_before_the_work(
    library: Any, invoke: Any, target: str, code: int, said: str
) -> None:
    result = invoke("analyze", "tiny.py", "--json", target)
    assert (result.exit_code, library.calls) == (code, [])
    assert said in result.stderr


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (WorkloadError("loss() must return\na scalar"), 1, "error: loss() must return a scalar"),
        (UsageError("unknown recipe 'x'"), 2, "error: unknown recipe 'x'"),
        (
            ZeroDivisionError("by\x1b[2Jzero"),
            1,
            "error: ZeroDivisionError: by\\x1b[2Jzero (--debug shows the traceback)",
        ),
        (MemoryError(), 1, "error: MemoryError:  (--debug shows the traceback)"),
    ],
)
def test_an_error_is_one_last_line(
    library: Any, invoke: Any, failure: Exception, code: int, line: str
) -> None:
    library.failure = failure
    result = invoke("analyze", "tiny.py")
    assert result.exit_code == code
    assert last_line(result) == line.replace(":  (", ": (")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_adds_the_traceback(library: Any, invoke: Any) -> None:
    library.failure = ZeroDivisionError("no")
    result = invoke("analyze", "tiny.py", "--debug")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert last_line(result) == "error: ZeroDivisionError: no"


def test_a_crash_keeps_names_and_renders_the_recording(library: Any, invoke: Any) -> None:
    library.failure = RuntimeError("boom")
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 1
    told = result.stderr.splitlines()[-3:]
    recording, page = Path("out/run.precscope"), Path("out/report.html")
    assert told[0] == f"recorded so far: {recording} (report so far: {page})"
    assert told[1] == f"show it with: precscope report {recording}"
    assert "boom" in told[2]
    assert recording.exists()
    assert page.exists()
    assert Path("out/result.json").exists()


def test_ctrl_c_keeps_the_recording_and_exits_with_130(library: Any, invoke: Any) -> None:
    library.failure = KeyboardInterrupt()
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 130
    assert "recorded so far: out/run.precscope" in result.stderr
    assert "precscope report out/run.precscope" in result.stderr
    assert last_line(result) == "interrupted"
    assert result.stdout == ""


def test_a_recording_with_nothing_in_it_is_not_kept(library: Any, invoke: Any) -> None:
    library.failure, library.records_nothing = WorkloadError("model() raised"), True
    result = invoke("analyze", "tiny.py")
    assert result.exit_code == 1
    assert "recorded so far" not in result.stderr
    assert not Path("precscope-runs").exists()


def test_a_failure_before_anything_is_recorded_leaves_nothing(library: Any, invoke: Any) -> None:
    library.failure, library.writes = KeyboardInterrupt(), False
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 130
    assert not Path("out").exists()
    assert not library.jobs


def test_a_recording_that_cannot_be_rendered_is_still_named(
    library: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RecordingError("truncated")

    monkeypatch.setattr("precscope_cli.run.render_fresh", refuse)
    library.failure = RuntimeError("boom")
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 1
    assert "recorded so far: out/run.precscope (not rendered: truncated)" in result.stderr
    assert "boom" in last_line(result)


def test_a_second_ctrl_c_while_rendering_still_names_the_recording(
    library: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("precscope_cli.run.render_fresh", interrupt)
    result = invoke("analyze", "tiny.py", "-o", "out")
    assert result.exit_code == 130
    assert "recorded so far: out/run.precscope (not rendered)" in result.stderr


def test_what_the_model_file_did_to_the_path_is_undone(
    library: Any, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    before = list(sys.path)
    library.failure = WorkloadError("x")
    original = library.calls

    class Meddling(list[Any]):
        def append(self, item: Any) -> None:
            sys.path.insert(0, "/meddled")
            original.append(item)

    library.calls = Meddling()
    invoke("analyze", "tiny.py")
    assert sys.path == before


def test_an_unknown_file_given_to_report_is_one_line(here: Path, invoke: Any) -> None:
    result = invoke("report", "nothing.precscope")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "nothing.precscope" in result.stderr


def test_a_foreign_file_given_to_report_is_one_line(here: Path, invoke: Any) -> None:
    result = invoke("report", "tiny.py")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_report_does_not_write_over_the_recording(here: Path, invoke: Any) -> None:
    (here / "run.precscope").write_text("precious")
    for option in ("-o", "--json"):
        result = invoke("report", "run.precscope", option, "./run.precscope")
        assert result.exit_code == 2
        assert "is the Recording itself" in result.stderr
    assert (here / "run.precscope").read_text() == "precious"


def test_an_empty_recording_given_to_report_is_one_line(here: Path, invoke: Any) -> None:
    from precscope.recording import RecordingWriter

    RecordingWriter(here / "empty.precscope", {"title": "x"}).close()
    result = invoke("report", "empty.precscope", "-o", "page.html")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: empty.precscope holds no observed step and no training run yet\n"
    )
    assert not Path("page.html").exists()
