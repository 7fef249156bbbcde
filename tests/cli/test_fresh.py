"""The fresh process: which modules it sees, and what it says when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from precscope.errors import PrecscopeError
from precscope_cli import fresh
from precscope_cli.render import RenderJob
from precscope_cli.streams import Look


def job(recording: str) -> RenderJob:
    return RenderJob((recording,), html=None, json=(), show="report", look=Look())


def test_an_error_of_ours_comes_back_as_one_line(tmp_path: Path) -> None:
    with pytest.raises(PrecscopeError, match=r"lost\.precscope"):
        fresh.render_fresh(job(str(tmp_path / "lost.precscope")))


def test_a_crash_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "BOOTSTRAP", "raise OSError('disk on fire')")
    with pytest.raises(
        PrecscopeError, match=r"^rendering failed: OSError: disk on fire$"
    ) as caught:
        fresh.render_fresh(job("x"))
    assert "Traceback" in str(caught.value.__cause__)


def test_a_process_that_dies_silently_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "BOOTSTRAP", "import os; os._exit(9)")
    with pytest.raises(PrecscopeError, match="rendering failed: exit code 9"):
        fresh.render_fresh(job("x"))


def test_its_path_has_nothing_of_the_user_in_front(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Everything that was importable stays so, behind the standard library and the packages."""
    monkeypatch.setattr(fresh, "STARTUP_PATH", (str(tmp_path), "", *sys.path))
    probe = (
        "import json, sys, precscope_cli; sys.stdin.read()\n"
        "print(json.dumps({'text': json.dumps([sys.path, precscope_cli.__file__])}))"
    )
    shown = fresh.BOOTSTRAP.split("from precscope_cli.render")[0]
    monkeypatch.setattr(fresh, "BOOTSTRAP", shown + probe.replace("{", "{{").replace("}", "}}"))
    path, ours = json.loads(fresh.render_fresh(job("x")).text)
    assert "" not in path
    assert path.index(str(tmp_path)) > max(
        number
        for number, entry in enumerate(path)
        if "site-packages" in entry or "lib-dyn" in entry
    )
    assert Path(ours) == Path(sys.modules["precscope_cli"].__file__ or "")
