"""precscope beside the other tools that look at a training; started by ``overhead.py --peers``.

The tools are installed into an environment of their own, which sees the packages of this one, so
that torch is the same for all. Each tool runs on each network in a process of its own, one step
plain and one step watched in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from overhead_models import MODELS
from peers_tools import NOT_COMPARED, TOOLS, Tool

ROUNDS = {1: 12, 25: 2}
"""Pairs of blocks per schedule; a block holds one period."""
TIMEOUT_S = 180
HERE = Path(__file__).resolve().parent

HEADER = (
    "| tool | looks at | network | every | plain ms | watched ms | ratio | p10 to p90 "
    "| ATen operations added | host reads | whole tensors to the host |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
FOOTER = """\
Per step, the mean over a period. Host reads: `_local_scalar_dense`. Whole tensors to the host: `cpu()`,
`numpy()`, `tolist()`, counted apart because on a CPU they are no operation; what was copied can be read
for nothing. precscope's kernel is no operation of ATen either; its calls per step: {kernel_calls}.
A tool without a schedule of its own looks at each step and has no line for every 25."""


def default_environment() -> Path:
    """Where the tools are installed: the user's cache, per version of torch and Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # No plus sign: msprobe refuses to read its own files from such a path.
    version = torch.__version__.replace("+", "-")
    return cache / "precscope" / f"peers-torch{version}-{sys.implementation.cache_tag}"


class Environment:
    """A virtual environment on top of this one.

    Args:
        folder: where it is, or will be made.
    """

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        if not self.python.exists():
            venv.create(folder, with_pip=False, symlinks=True)
        below = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
        inner = Path(self._own("import sysconfig; print(sysconfig.get_path('purelib'))"))
        (inner / "below.pth").write_text("\n".join(sorted(below)) + "\n")
        self._constraints = folder / "constraints.txt"
        versions = self._own("import torch, numpy; print(torch.__version__, numpy.__version__)")
        fixed = zip(("torch", "numpy"), versions.split(), strict=True)
        self._constraints.write_text("".join(f"{name}=={version}\n" for name, version in fixed))

    def _own(self, code: str) -> str:
        found = subprocess.run(
            [self.python, "-c", code], capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    def install(self, requirement: str) -> str:
        """Install beside the torch that is there; returns why not, or an empty text."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install"]
        command = [*pip, "--constraint", str(self._constraints), requirement]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return ""
        lines = [line.strip() for line in (found.stdout + found.stderr).splitlines()]
        causes = [line for line in lines if line.startswith(requirement.replace("==", " "))]
        errors = [line for line in lines if line.startswith("ERROR: ")]
        told = [line for line in causes if "depends on" in line] or errors or ["no word from pip"]
        return told[0].removeprefix("ERROR: ")

    def measure(self, tool: Tool, model: str, every: int) -> dict[str, Any]:
        """Run one tool on one network; times and counts, or ``failed`` and why."""
        arguments = ["--tool", tool.name, "--model", model, "--every", str(every)]
        arguments += ["--rounds", str(ROUNDS[every])]
        variables = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "offline",
        }
        try:
            found = subprocess.run(
                [self.python, HERE / "peers_measure.py", *arguments],
                capture_output=True, text=True, check=False, env=variables, timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {TIMEOUT_S} s"}
        if found.returncode:
            return {"failed": (found.stderr.strip().splitlines() or ["ended without a word"])[-1]}
        result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        return result


def compare_tools(environment: Environment, names: list[str]) -> Iterator[dict[str, Any]]:
    """A result per tool, network and schedule; of a tool that does not install, why."""
    for tool in TOOLS:
        if names and tool.name not in names:
            continue
        reason = environment.install(tool.requirement) if tool.requirement else ""
        if reason:
            yield {"tool": tool.name, "not_installed": reason}
            continue
        failed: set[str] = set()
        for every, model in product(ROUNDS, MODELS):
            if model not in failed and (every == 1 or tool.schedule != "none"):
                found = environment.measure(tool, model, every)
                failed |= {model} if "failed" in found else set()
                yield {
                    "tool": tool.name,
                    "sees": tool.sees,
                    "model": model,
                    "every": every,
                    **found,
                }


def left_out(environment: Environment) -> Iterator[dict[str, Any]]:
    """The tools that are not measured, and why."""
    for name, (requirement, reason) in NOT_COMPARED.items():
        told = reason or environment.install(requirement) or "installs, but is not measured here"
        yield {"tool": name, "not_installed": told}


def line(result: dict[str, Any]) -> str:
    """The result as a line of the table."""
    r = result
    if "not_installed" in r:
        return f"| {r['tool']} | not compared: {r['not_installed']} |" + " |" * 9
    start = f"| {r['tool']} | {r['sees']} | {r['model']} | {r['every']} "
    if "failed" in r:
        return start + f"| FAILS: {r['failed'][:90]} |" + " |" * 6
    told = [
        f"{r[name]:.1f}".removesuffix(".0") if name in r else "not visible"
        for name in ("added_operations", "host_reads", "host_copies")
    ]
    return start + (
        f"| {r['plain_ms']:.1f} | {r['watched_ms']:.1f} | **{r['ratio']:.3f}** "
        f"| {r['ratio_p10']:.2f} to {r['ratio_p90']:.2f} | " + " | ".join(told) + " |"
    )


def run(machine: dict[str, Any], folder: Path, names: list[str], path: Path) -> None:
    """Install, measure, print the table line by line, and write it as JSON."""
    environment = Environment(folder)
    print(", ".join(f"{k} {v}" for k, v in machine.items()) + "\n\n" + HEADER)
    results = []
    for result in _everything(environment, names):
        results.append(result)
        print(line(result), flush=True)
    print("\n" + FOOTER.format(kernel_calls=_kernel_calls(results)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")
    print(f"\nwritten to {path}")


def _everything(environment: Environment, names: list[str]) -> Iterator[dict[str, Any]]:
    yield from compare_tools(environment, names)
    if not names:
        yield from left_out(environment)


def _kernel_calls(results: list[dict[str, Any]]) -> str:
    told = [
        f"{r['own_kernel_calls']:.1f} ({r['model']}, every {r['every']})"
        for r in results
        if r.get("own_kernel_calls")
    ]
    return ", ".join(told) or "not measured"
