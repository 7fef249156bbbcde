"""A rank that raises or is killed, and the command that trains a script of several ranks."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from precscope import Recording
from tests.distributed.small import LAST_STEP
from tests.support.torchrun import ROOT

pytestmark = pytest.mark.distributed

SMALL = Path(__file__).with_name("small.py")
LIMIT_SECONDS = 300
WINDOW_STEPS = 64


def torchrun(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun ARGUMENTS``, however it ends."""
    folders = [str(ROOT), str(ROOT / "cli"), str(ROOT / "reports")]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "PYTHONPATH": os.pathsep.join(folders),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=cwd,
        check=False,
    )


def test_what_a_killed_rank_and_the_one_that_raised_recorded_is_readable(tmp_path: Path) -> None:
    """The second is killed; the first finds its connection closed, or is ended by torchrun."""
    two = ["--nproc-per-node", "2", str(SMALL), "killed"]
    ran = torchrun(*two, str(tmp_path / "run.precscope"), cwd=tmp_path)
    assert ran.returncode == 1  # torchrun's own, as without us
    first = ran.stderr.partition("Root Cause")[2]
    assert re.search(r"rank +: 1 ", first)
    assert re.search(r"exitcode +: -9 ", first)
    for rank in (0, 1):
        recording = Recording.open(tmp_path / f"run.rank{rank}.precscope")
        assert WINDOW_STEPS <= len(recording.steps) <= LAST_STEP + 1
    merged = Recording.open(tmp_path / "run.precscope")
    assert (merged.meta["ranks"], merged.is_complete) == (2, False)


def test_the_command_that_is_named_trains_the_script_with_recipes(tmp_path: Path) -> None:
    asked = ["-m", "precscope", "analyze", str(SMALL), "--steps", "2", "-o", "two", "--json", "-"]
    ran = torchrun("--nproc-per-node", "2", *asked, "--", "none", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    findings = {f["rule"]: f["message"] for f in json.loads(ran.stdout)["findings"]}
    command = findings["script_recipes_not_run"].removesuffix(".").rpartition(": ")[2]
    program, *words = shlex.split(command)
    assert program == "torchrun"
    place = words.index("--")
    fast = ["--recipes", "fp16", "--seeds", "1", "-o", "one", "--json", "-", "--quiet"]
    trained = torchrun(*words[:place], *fast, *words[place:], cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    runs = json.loads(trained.stdout)["runs"]
    assert [(run["recipe"], run["steps"]) for run in runs] == [("fp32", 2), ("fp16", 2)]
