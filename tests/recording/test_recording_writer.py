from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from precscope.errors import RecordingError
from precscope.recording import Recording, RecordingWriter, writer
from tests.recording import samples


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a run?#%41.precscope"


def write_sample(path: Path) -> None:
    with RecordingWriter(path, {"model": "net", "every": 10}) as recording:
        site = recording.add_site(samples.site())
        recording.add_window(site, samples.window(0, seed=1))
        recording.add_window(site, samples.window(1, seed=2))
        recording.add_step(samples.step(0, 2.0, float("inf")))
        recording.add_update(samples.update(0))
        recording.put_document("coverage", {"seen": ["a"], "skipped": {}})


def test_everything_written_is_read_again(path: Path) -> None:
    write_sample(path)
    recording = Recording.open(path)
    assert recording.meta == {"model": "net", "every": 10}
    assert recording.sites == (samples.site(),)
    assert recording.steps == [samples.step(0, 2.0, float("inf"))]
    assert recording.updates == {"layer.weight": [samples.update(0)]}
    assert recording.documents == ("coverage",)
    assert recording.document("coverage") == {"seen": ["a"], "skipped": {}}
    assert recording.document("advice", "none") == "none"
    assert [w.first_step for w in recording.windows(0)] == [0, 1]
    expected = samples.histogram(1).merged(samples.histogram(2))
    assert (recording.histogram(0).counts == expected.counts).all()
    assert (recording.path, recording.is_complete) == (path, True)


def test_a_closed_recording_is_one_file_that_can_be_copied_alone(path: Path) -> None:
    write_sample(path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    copy = path.parent / "copy.precscope"
    shutil.copyfile(path, copy)
    assert Recording.open(copy).document("coverage") is not None


def test_a_recording_is_recognisable_from_its_header(path: Path) -> None:
    write_sample(path)
    assert path.read_bytes()[68:72] == b"prec"
    assert int.from_bytes(path.read_bytes()[60:64], "big") == 1


def test_reading_changes_no_byte(path: Path) -> None:
    write_sample(path)
    before = path.read_bytes()
    Recording.open(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


READ_AS_NOBODY = """
import os, sys
from precscope.recording import Recording
if os.geteuid() == 0:
    os.setuid(65534)
try:
    open(sys.argv[1], "ab")
except PermissionError:
    print(Recording.open(sys.argv[1]).meta["model"])
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX permissions")
def test_a_read_only_folder_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.precscope")
        write_sample(path)
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_AS_NOBODY, path],
            capture_output=True,
            text=True,
            check=False,
        )
        Path(folder).chmod(stat.S_IRWXU)
    assert (done.stdout.strip(), done.stderr) == ("net", "")


def test_an_existing_file_is_refused(path: Path) -> None:
    write_sample(path)
    with pytest.raises(RecordingError, match="exists: choose another path"):
        RecordingWriter(path, {})
    assert Recording.open(path).meta["model"] == "net"


def test_overwrite_replaces_a_recording_and_nothing_else(path: Path) -> None:
    write_sample(path)
    RecordingWriter(path, {"model": "second"}, overwrite=True).close()
    assert Recording.open(path).meta == {"model": "second"}
    path.write_text("import torch\n" * 20)
    with pytest.raises(RecordingError, match="not a precscope Recording"):
        RecordingWriter(path, {}, overwrite=True)
    assert path.read_text().startswith("import torch")


@pytest.mark.parametrize("place", ["missing/run.precscope", "", "file/run.precscope", "a\0b"])
def test_an_unwritable_place_is_one_clear_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError) as caught:
        RecordingWriter(tmp_path / place, {})
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_value_without_a_json_form_is_refused_where_it_is_given(path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot record this meta"):
        RecordingWriter(path, {"model": object()})
    with pytest.raises(RecordingError, match="cannot record this meta"):
        RecordingWriter(path, {1: "one"})  # type: ignore[dict-item]
    assert not path.exists()
    with (
        RecordingWriter(path, {}) as recording,
        pytest.raises(RecordingError, match="document 'advice'"),
    ):
        recording.put_document("advice", {1, 2})


def test_what_could_not_be_read_again_is_refused_and_spoils_nothing(path: Path) -> None:
    infinite = replace(samples.histogram(), amax=float("inf"))
    with RecordingWriter(path, {}) as recording:
        site = recording.add_site(samples.site())
        with pytest.raises(RecordingError, match="window"):
            recording.add_window(site, replace(samples.window(0), first_step=-1))
        with pytest.raises(RecordingError, match="window"):
            recording.add_window(site, replace(samples.window(0), histogram=infinite))
        with pytest.raises(RecordingError, match="step"):
            recording.add_step(samples.step(0, gradient_amax=float("nan")))
        with pytest.raises(RecordingError, match="update window"):
            recording.add_update(replace(samples.update(0), single=(samples.sums(1.0, 2**62),)))
        with pytest.raises(RecordingError, match="unknown site 7"):
            recording.add_window(7, samples.window(0))
        recording.add_window(site, samples.window(3))
    assert [w.first_step for w in Recording.open(path).windows(site)] == [3]


def test_a_site_can_be_completed_later(path: Path) -> None:
    with RecordingWriter(path, {}) as recording:
        assert [recording.add_site(samples.site(name)) for name in "ab"] == [0, 1]
        recording.flush()
        recording.update_site(1, samples.site("b", autocast_dtype="float16"))
    assert [s.autocast_dtype for s in Recording.open(path).sites] == [None, "float16"]


def test_a_document_replaces_the_one_before(path: Path) -> None:
    with RecordingWriter(path, {}) as recording:
        recording.put_document("phase", "observe")
        recording.flush()
        recording.put_document("phase", "train")
    assert Recording.open(path).document("phase") == "train"


def test_a_window_is_copied_when_it_is_added(path: Path) -> None:
    window = samples.window(0)
    expected = int(window.histogram.counts.sum())
    with RecordingWriter(path, {}) as recording:
        recording.add_window(recording.add_site(samples.site()), window)
        window.histogram.counts[:] = 0
    assert Recording.open(path).histogram(0).nonzero == expected


def test_threads_other_than_the_creator_may_write(path: Path) -> None:
    recording = RecordingWriter(path, {})

    def work() -> None:
        recording.add_site(samples.site())
        recording.flush()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(Recording.open(path).sites) == 1
    recording.close()


def test_closing_twice_is_harmless_and_writing_after_it_is_an_error(path: Path) -> None:
    recording = RecordingWriter(path, {})
    recording.close()
    recording.close()
    with pytest.raises(RecordingError, match="is closed"):
        recording.add_step(samples.step(0))


def test_a_flush_that_meets_a_reader_keeps_everything_for_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FLUSH_TIMEOUT_SECONDS", 0.01)
    recording = RecordingWriter(path, {})
    site = recording.add_site(samples.site())
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM site").fetchall()
    for step in range(3):
        recording.add_window(site, samples.window(step))
        assert recording.flush() is False
    reader.execute("COMMIT")
    reader.close()
    assert recording.flush() is True
    assert [w.first_step for w in Recording.open(path).windows(site)] == [0, 1, 2]
    recording.close()


def test_close_says_so_when_a_reader_never_leaves(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT_SECONDS", 0.01)
    recording = RecordingWriter(path, {})
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM site").fetchall()
    with pytest.raises(RecordingError, match="stays locked"):
        recording.close()
    reader.close()
    recording.close()
    assert Recording.open(path).is_complete


def test_a_file_that_is_gone_is_an_error_that_names_it(path: Path) -> None:
    recording = RecordingWriter(path, {})
    path.unlink()
    recording.add_step(samples.step(0))
    with pytest.raises(RecordingError, match=r"cannot write .*precscope"):
        recording.flush()
    assert not path.exists()


FORK = """
import os, sys
from precscope.recording import Recording, RecordingWriter
from tests.recording import samples
writer = RecordingWriter(sys.argv[1], {})
site = writer.add_site(samples.site())
writer.add_window(site, samples.window(0))
pid = os.fork()
if pid == 0:
    writer.add_window(writer.add_site(samples.site("child")), samples.window(1))
    writer.put_document("child", True)
    assert writer.flush() is True
    writer.close()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
writer.close()
recording = Recording.open(sys.argv[1])
assert [s.name for s in recording.sites] == ["layer"], recording.sites
assert recording.documents == () and len(recording.windows(0)) == 1
print("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_writes_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("fine", "")
