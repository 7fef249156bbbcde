"""``precscope compare`` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from precscope.facts import Window
from precscope.recording import RecordingWriter
from precscope.result import build_result
from tests.support.recordings import recording, site, window

Invoke = Callable[..., Result]
HOSTILE = "</script><script>alert(1)</script>\x1b[31m[red]=cmd()"


def write(path: Path, values: tuple[float, ...], name: str = "layer.weight") -> Path:
    with RecordingWriter(path, {"title": "net"}) as writer:
        number = writer.add_site(site(name, "weight_gradient", "float16"))
        found = window(values)
        writer.add_window(number, Window(0, 3, 4, found.histogram))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    before = write(tmp_path / "before.precscope", (1.5, 1.25, 2.5))
    return before, write(tmp_path / "after.precscope", (1.5 * 2.0**-30, 2.0**-28, 1.0))


def test_what_moved_is_told_in_80_plain_columns(pair: tuple[Path, Path], invoke: Invoke) -> None:
    told = invoke("compare", *map(str, pair))
    assert told.exit_code == 0
    assert "flushed" in told.stdout
    assert "layer.weight" in told.stdout
    assert "\x1b" not in told.stdout
    uncut = [line for line in told.stdout.splitlines() if str(pair[0]) not in line]
    assert max(map(len, uncut)) <= 80


def test_the_json_alone_is_on_stdout(pair: tuple[Path, Path], invoke: Invoke) -> None:
    told = invoke("compare", *map(str, pair), "--json", "-")
    comparison = json.loads(told.stdout)
    assert comparison["schema"] == 1
    assert comparison["counts"]["flushed"] == 1


def test_a_folder_and_a_result_stand_for_a_run(tmp_path: Path, invoke: Invoke) -> None:
    folder, only_result = tmp_path / "run", tmp_path / "old"
    folder.mkdir()
    only_result.mkdir()
    write(folder / "run.precscope", (1.5, 1.25))
    result = build_result(recording([("layer.weight", "weight_gradient", (1.5, 1.25))]))
    (only_result / "result.json").write_text(json.dumps(result))
    for other in (only_result, only_result / "result.json"):
        told = invoke("compare", str(folder), str(other), "--json", "-")
        assert json.loads(told.stdout)["counts"] | {"same": 1} == json.loads(told.stdout)["counts"]


def test_quiet_prints_nothing_and_still_writes(
    pair: tuple[Path, Path], tmp_path: Path, invoke: Invoke
) -> None:
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    told = invoke("compare", *map(str, pair), "-q", "-o", str(page), "--json", str(data))
    assert (told.exit_code, told.output) == (0, "")
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(data.read_text())["sites"]


def test_the_page_runs_no_script_and_takes_no_markup_from_names(
    tmp_path: Path, invoke: Invoke
) -> None:
    runs = [
        write(tmp_path / f"{at}.precscope", values, HOSTILE)
        for at, values in enumerate(((1.5,), (24.0,)))
    ]
    page = tmp_path / "page.html"
    told = invoke("compare", *map(str, runs), "-o", str(page))
    assert "\x1b" not in told.stdout
    html = page.read_text()
    assert "<script" not in html
    assert "default-src &#x27;none&#x27;" in html
    assert "http://" not in html
    assert "https://" not in html


def test_top_limits_what_is_shown_not_what_is_written(tmp_path: Path, invoke: Invoke) -> None:
    runs = []
    for at, factor in enumerate((1.0, 16.0)):
        path = tmp_path / f"{at}.precscope"
        with RecordingWriter(path, {}) as writer:
            for number in range(9):
                writer.add_site(site(f"layer{number}", "weight", "float16"))
                writer.add_window(number, window((1.5 * factor,)))
        runs.append(str(path))
    told = invoke("compare", *runs, "--top", "2")
    assert "7 more sites moved: --top 9" in told.stdout
    assert len(json.loads(invoke("compare", *runs, "--json", "-").stdout)["sites"]) == 9


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("nope", "nope"), 1, "cannot read nope"),
        (("before.precscope",), 2, "RUN_B"),
        (("before.precscope", "other.precscope"), 2, "no site and no training run in common"),
        (("before.precscope", "notes.txt"), 1, "is not a precscope Recording"),
        (("before.precscope", "after.precscope", "-o", "after.precscope"), 2, "one of the runs"),
        (("before.precscope", "after.precscope", "-o", "no/x.html"), 1, "no folder"),
        (("before.precscope", "after.precscope", "--top", "-1"), 2, "--top"),
    ],
)
def test_mistakes_are_told_in_one_line(
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Invoke,
    args: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.precscope", (1.0,), "elsewhere")
    (tmp_path / "notes.txt").write_text("none")
    told = invoke("compare", *args)
    assert told.exit_code == code
    assert said in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(
    pair: tuple[Path, Path], environ: dict[str, str]
) -> None:
    main = "from precscope_cli.main import main; main()"
    command = f'"{sys.executable}" -c "{main}" compare "$A" "$B" | head -1; exit ${{PIPESTATUS[0]}}'
    ran = subprocess.run(
        ["bash", "-c", command],
        env=environ | {"A": str(pair[0]), "B": str(pair[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"precscope compare: net{os.linesep}"
