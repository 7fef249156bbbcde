"""Terminals, pipes and encodings."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time

import pytest

from precscope_cli.paper import printed
from precscope_cli.progress import Display, Lines, Live, display_for
from precscope_cli.streams import Look, look_of, one_line, put


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _known_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_pipe_gets_plain_text_of_80_columns() -> None:
    look = look_of(io.StringIO())
    assert (look.width, look.color_system) == (80, None)


def test_a_pipe_can_be_given_another_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    assert look_of(io.StringIO()).width == 132


@pytest.mark.parametrize(
    ("columns", "width"), [("²", 80), ("9" * 5000, 80), ("19", 80), ("-5", 80)]
)
def test_a_width_that_means_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert look_of(io.StringIO()).width == width
    assert printed(Look(), lambda console: console.print("text")) == "text\n"


def test_no_line_is_filled_to_a_width_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "99999999")
    assert look_of(io.StringIO()).width == 1000


def test_an_empty_wish_for_no_colour_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert look_of(Terminal()).color_system == "256"


def test_a_terminal_gets_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look_of(Terminal()).color_system == "256"
    monkeypatch.setenv("NO_COLOR", "1")
    assert look_of(Terminal()).color_system is None


def test_a_dumb_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert look_of(Terminal()).color_system is None


def test_text_that_the_stream_cannot_encode_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    put("a→b\ud800")
    assert stream.buffer.getvalue() == b"a?b?"


def test_one_line_shows_control_characters() -> None:
    assert one_line("a\n  b\x1b[31m\u202e\ttail ") == "a b\\x1b[31m\\u202e tail"


def test_live_progress_draws_a_bar_and_clears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("precscope_cli.progress.REFRESH_SECONDS", 0.0)
    with Live(stream) as live:
        live.phase("observe [bold]x[/bold]", 4)
        live.advance(2, "loss 0.5 [red]")
        live.phase("probe", None)
        live.advance(1)
    drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", stream.getvalue())
    assert "observe [bold]x[/bold]" in drawn
    assert "loss 0.5 [red]" in drawn
    assert "probe" in drawn
    assert stream.getvalue().rstrip().endswith("\x1b[2K")


def test_live_progress_draws_rarely_and_from_no_thread_of_its_own() -> None:
    import threading

    stream = Terminal()
    with Live(stream) as live:
        before = threading.active_count()
        live.phase("observe", 10_000)
        size = len(stream.getvalue())
        started = time.monotonic()
        for step in range(10_000):
            live.advance(step)
        assert threading.active_count() == before
        allowed = 2 + (time.monotonic() - started) / 0.2
        assert len(stream.getvalue()) < size * (allowed + 1) * 2


def test_the_display_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(display_for(quiet=False)) is Lines
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert type(display_for(quiet=False)) is Live
    assert type(display_for(quiet=True)) is Display


def test_help_imports_nothing_heavy(environ: dict[str, str]) -> None:
    code = (
        "import sys; from precscope_cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'numba', 'rich', 'plotly'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.strip()) == (0, "")
    assert "analyze" in ran.stdout
