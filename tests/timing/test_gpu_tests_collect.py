"""The tests that need a GPU, without one: every file of them imports and is collected to be run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRETEND = """
import sys
import pytest
import torch

torch.cuda.is_available = lambda: True
sys.exit(pytest.main(["tests/gpu", "-m", "gpu", "--collect-only", "-q", "-p", "no:cacheprovider"]))
"""


def test_every_gpu_test_is_collected_where_there_is_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRETEND], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for path in sorted((ROOT / "tests" / "gpu").glob("test_*.py")):
        assert f"tests/gpu/{path.name}::" in done.stdout
