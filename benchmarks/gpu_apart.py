"""A section of the GPU benchmark in a process of its own, which may crash, hang or spoil its CUDA context."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("gpu.py")
ROOT = SCRIPT.parents[1]
GRACE_S = 20.0
"""To start, and to end what is under way when the section's time is up."""


def apart(name: str, limit_s: float, hard_s: float, options: list[str]) -> dict[str, Any]:
    """Run one section; what it had kept when it died is kept.

    Args:
        name: of the section, or ``environment``.
        limit_s: after which it takes up no new work.
        hard_s: after which it is killed, with all that it started.
        options: of the benchmark, handed on.

    Returns:
        ``found`` or ``error`` with ``partial``, and ``seconds``.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="precscope-gpu-") as folder:
        path = Path(folder) / "section.json"
        command = [sys.executable, str(SCRIPT), *options]
        command += ["--section", name, "--limit", f"{limit_s:.1f}", "--json", str(path)]
        child = subprocess.Popen(
            command, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
        )
        ended = _ended(child, min(limit_s + GRACE_S, hard_s))
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    seconds = time.monotonic() - start
    if ended is None and "found" not in told:
        told = {"error": f"killed after {seconds:.0f} s", "partial": told.get("partial")}
    elif "found" not in told and "error" not in told:
        told = {"error": f"the process ended with {ended}", "partial": told.get("partial")}
    return {**told, "seconds": seconds}


def environment() -> dict[str, str]:
    """This process's, with our packages before all that it finds already."""
    ours = [str(ROOT / part) for part in ("", "cli", "reports")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*ours, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }


def _ended(child: subprocess.Popen[bytes], limit_s: float) -> int | None:
    """Its exit status; None if it had to be killed."""
    try:
        return child.wait(max(limit_s, 1.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
