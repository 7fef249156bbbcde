"""One real analysis on the GPU, through the command line, with its HTML report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gpu_setting import Setting

EXAMPLE = Path(__file__).parents[1] / "examples" / "vocab_lm.py"
ROOT = Path(__file__).parents[1]


def analysis(setting: Setting, keep: Path | None) -> dict[str, Any]:
    """``precscope analyze`` of an example; the page goes to ``keep``."""
    steps, training = setting.pick(40, 20, 2), setting.pick(60, 20, 3)
    with tempfile.TemporaryDirectory(prefix="precscope-gpu-") as folder:
        command = [
            sys.executable, "-m", "precscope", "analyze", str(EXAMPLE),
            "--device", str(setting.device), "--steps", str(steps),
            "--recipe-steps", str(training), "--recipes", "fp32,advised,fp16",
            "--seeds", "1", "--output", folder,
        ]  # fmt: skip
        path = os.pathsep.join(str(ROOT / part) for part in ("", "cli", "reports"))
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=setting.left_s + 10.0,
        )
        if done.returncode:
            return {"error": done.stderr[-1500:], "exit_code": done.returncode}
        result: dict[str, Any] = json.loads((Path(folder) / "result.json").read_text())
        if keep is not None:
            shutil.copy(Path(folder) / "report.html", keep / "report.html")
            shutil.copy(Path(folder) / "result.json", keep / "result.json")
    return {
        "example": EXAMPLE.name,
        "verdicts": [(v["question"], v["sentence"]) for v in result["verdicts"]],
        "overhead_ratio": result["timing"]["overhead_ratio"],
        "timing": {k: v for k, v in result["timing"].items() if k != "modules"},
        "modules": len(result["timing"]["modules"] or []),
    }
