"""One real analysis on the GPU, through the command line, with its HTML report."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_apart import environment
from gpu_setting import Setting

from precscope.errors import PrecscopeError
from precscope.recording import Recording
from precscope.result import build_result

EXAMPLE = Path(__file__).parents[1] / "examples" / "vocab_lm.py"
ROOT = Path(__file__).parents[1]
FILES = ("report.html", "result.json")


def analysis(setting: Setting, keep: Path | None) -> dict[str, Any]:
    """``precscope analyze`` of an example; its page and result go to ``keep``.

    The figures are those of the Recording, which is there also where no page could be made of it.
    """
    with tempfile.TemporaryDirectory(prefix="precscope-gpu-") as name:
        folder = Path(name)
        complaint = _complaint(_command(setting, folder), setting.left_s + 10.0)
        found = {"example": EXAMPLE.name, **_figures(folder / "run.precscope")}
        for file in FILES if keep is not None else ():
            if (folder / file).exists():
                shutil.copy(folder / file, keep / file)
    if complaint is not None:
        setting.keep(found)
        raise RuntimeError(complaint)
    return found


def _command(setting: Setting, folder: Path) -> list[str]:
    steps, training = setting.pick(40, 20, 2), setting.pick(60, 20, 3)
    return [
        sys.executable, "-m", "precscope", "analyze", str(EXAMPLE),
        "--device", str(setting.device), "--steps", str(steps),
        "--recipe-steps", str(training), "--recipes", "fp32,advised,fp16",
        "--seeds", "1", "--output", str(folder),
    ]  # fmt: skip


def _complaint(command: list[str], limit_s: float) -> str | None:
    """The end of what a command said that failed or took too long; None if it went well."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        return f"not done after {limit_s:.0f} s: {_end(error.stderr)}"
    return f"exit code {done.returncode}: {_end(done.stderr)}" if done.returncode else None


def _end(said: bytes | str | None) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    return text[-900:]


def _figures(recording: Path) -> dict[str, Any]:
    """What the Recording says of the analysis; {} where it does not tell."""
    try:
        result = build_result(Recording.open(recording))
    except PrecscopeError:
        return {}
    timing = result["timing"] or {}
    return {
        "verdicts": [(v["question"], v["sentence"]) for v in result["verdicts"]],
        "overhead_ratio": timing.get("overhead_ratio"),
        "timing": {key: value for key, value in timing.items() if key != "modules"},
        "modules": len(timing.get("modules") or []),
    }
