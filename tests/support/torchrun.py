"""Starting two processes with torchrun; the machine needs nothing but a loopback device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 90


def torchrun(*arguments: str, processes: int = 2, cwd: Path | None = None) -> str:
    """Run ``torchrun ARGUMENTS``; returns what all processes wrote, and fails if one failed."""
    folders = [str(ROOT), str(ROOT / "cli"), str(ROOT / "reports")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), *arguments),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "PYTHONPATH": os.pathsep.join(folders),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout
