"""A Recording that may not be read is not called damaged."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from precscope.errors import RecordingError
from precscope.recording import Recording, RecordingWriter, schema


@pytest.mark.parametrize(
    ("readable", "told"), [(False, "Permission denied"), (True, "unable to open database file")]
)
def test_what_the_system_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool, told: str
) -> None:
    path = tmp_path / "run.precscope"
    RecordingWriter(path, {}).close()

    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(schema, "connect_to_read", refuse)
    monkeypatch.setattr(os, "access", lambda *_: readable)
    with pytest.raises(RecordingError) as raised:
        Recording.open(path)
    assert str(raised.value) == f"cannot read {path}: {told}"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read it all")
def test_a_private_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    RecordingWriter(path, {}).close()
    path.chmod(0)
    with pytest.raises(RecordingError, match=r"cannot read .*Permission denied"):
        Recording.open(path)
