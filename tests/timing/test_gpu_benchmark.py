"""The GPU benchmark: every section's code runs on the CPU, and a machine without a GPU is told."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.recording import RecordingWriter

ROOT = Path(__file__).parents[2]


def benchmark(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "cli", "reports"))
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_section_runs_dry_and_is_written(tmp_path: Path) -> None:
    done = benchmark("--dry-run", "--skip", "analysis", "--json", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written == json.loads(done.stdout)
    assert written["dry_run"] is True
    names = "counts bandwidth overhead recipes questions operations accumulation tune"
    assert list(written["sections"]) == names.split()
    found = {name: section["found"] for name, section in written["sections"].items()}
    assert found["counts"]["all_equal"] is True
    assert len(found["questions"]) == 7
    assert all(row["error"] < 0.1 for row in found["accumulation"]["rows"])


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found: Callable[..., dict[str, Any]] = importlib.import_module("gpu_apart").apart
    return found


def test_a_section_in_a_process_of_its_own_hands_back_what_it_found(
    apart: Callable[..., dict[str, Any]],
) -> None:
    found = apart("bandwidth", 5.0, 200.0, ["--dry-run"])
    assert len(found["found"]["rows"]) == 3
    assert found["seconds"] > 0


def test_a_section_that_crashes_or_hangs_is_an_error_and_no_more(
    apart: Callable[..., dict[str, Any]],
) -> None:
    crashed = apart("no such section", 5.0, 200.0, ["--dry-run"])
    assert crashed["error"] == "the process ended with 1"
    hung = apart("counts", 0.0, 0.1, ["--dry-run"])
    assert hung["error"].startswith("killed after")


def test_what_a_section_found_before_it_failed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")

    def fails(setting: Any) -> None:
        setting.keep({"rows": [1]})
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(gpu, "sections", lambda folder: {"counts": fails})
    path = tmp_path / "section.json"
    assert gpu.main(["--dry-run", "--section", "counts", "--limit", "1", "--json", str(path)]) == 0
    told = json.loads(path.read_text())
    assert told["partial"] == {"rows": [1]}
    assert "illegal memory access" in told["error"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_one_measurement_that_fails_costs_itself_only(module: Callable[[str], Any]) -> None:
    setting = module("gpu_setting").Setting(torch.device("cpu"), seconds=60.0)
    kernel = module("gpu_kernel")
    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(kernel, "_cases", lambda _: iter([("broken", lambda: 1 / 0), ONES]))
        patch.setattr(kernel, "_many", lambda _: {"equal": True})
        found = kernel.counts(setting)
    broken, ones = found["cases"]
    assert broken == {
        "case": "broken", "equal": False, "error": "ZeroDivisionError: division by zero",
    }  # fmt: skip
    assert (ones["case"], ones["equal"]) == ("ones", True)
    assert found["all_equal"] is False


ONES = ("ones", lambda: torch.ones(5))


@pytest.mark.parametrize("times_out", [False, True])
def test_an_analysis_without_a_page_keeps_its_figures(
    times_out: bool, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a machine without plotly: the Recording is there, the page cannot be made."""
    analysis = module("gpu_analysis")
    kept: list[dict[str, Any]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        folder = Path(command[command.index("--output") + 1])
        with RecordingWriter(folder / "run.precscope", {"title": "t"}) as writer:
            writer.put_document("timing", {"clock": "CUDA events", "modules": [1, 2]})
        told = b"Error: rendering failed: No module named 'plotly'"
        if times_out:
            raise subprocess.TimeoutExpired(command, 1.0, stderr=told)
        return subprocess.CompletedProcess(command, 1, stderr=told)

    monkeypatch.setattr(subprocess, "run", run)
    setting = module("gpu_setting").Setting(torch.device("cpu"), dry=True, keep=kept.append)
    with pytest.raises(RuntimeError, match="No module named 'plotly'"):
        analysis.analysis(setting, tmp_path)
    assert kept[-1]["timing"]["clock"] == "CUDA events"
    assert kept[-1]["modules"] == 2


def test_the_page_lies_beside_the_numbers(
    module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu, asked = module("gpu"), []

    def apart(name: str, limit: float, hard: float, own: list[str]) -> dict[str, Any]:
        asked.append(own)
        return {"found": {"facts": {"name": "NVIDIA H100"}, "dtype": torch.float16}}

    monkeypatch.setattr(gpu, "apart", apart)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    path = tmp_path / "out" / "gpu.json"
    assert gpu.main(["--only", "tune", "--json", str(path)]) == 0
    assert asked[-1][-2:] == ["--folder", str(path.parent)]
    section = json.loads(path.read_text())["sections"]["tune"]
    assert section["found"]["dtype"] == "torch.float16"


def test_everything_that_is_asked_of_the_hardware_has_its_section_and_its_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    assert list(gpu.SECTIONS_S) == list(gpu.sections(None))
    assert sum(gpu.SECTIONS_S.values()) <= gpu.TOTAL_S <= 480
    page = (ROOT / "docs" / "gpu.md").read_text()
    assert all(f"--only {name}`" in page for name in gpu.SECTIONS_S)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_cuda_one_line_says_so() -> None:
    done = benchmark()
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no CUDA device here" in done.stderr
