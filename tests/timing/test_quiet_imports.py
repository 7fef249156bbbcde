"""What torch has to say to those who use its tools does not reach those who use ours."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from precscope.timing.flops import silenced

ROOT = Path(__file__).parents[2]
WITHOUT_TRITON = """
import sys, warnings
sys.modules["triton"] = None
import torch
import precscope.timing.flops
from precscope.timing.profiling import traced
model = torch.nn.Linear(2, 2)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    trace = traced(model, lambda: model(torch.ones(1, 2)).sum().backward(), 2)
print([str(warning.message) for warning in told])
"""


def test_neither_the_import_without_triton_nor_a_profile_says_a_word() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_TRITON],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    assert "triton not found" not in done.stderr


def test_a_logger_is_silent_inside_of_the_block_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("precscope.tests.loud")
    with silenced("precscope.tests.loud"):
        logger.warning("inside")
    logger.warning("outside")
    assert [record.message for record in caplog.records] == ["outside"]
