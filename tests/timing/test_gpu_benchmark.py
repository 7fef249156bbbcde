"""The GPU benchmark: every section's code runs on the CPU, and a machine without a GPU is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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
    names = "counts bandwidth overhead tune questions operations accumulation recipes"
    assert list(written["sections"]) == names.split()
    found = {name: section["found"] for name, section in written["sections"].items()}
    assert found["counts"]["all_equal"] is True
    assert len(found["questions"]) == 7
    assert all(row["error"] < 0.1 for row in found["accumulation"]["rows"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_cuda_one_line_says_so() -> None:
    done = benchmark()
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "no CUDA device here" in done.stderr
