"""Everything that only a CUDA GPU can tell, in one command and under eight minutes on an H100.

Prints one JSON and writes it after every section, so that a run that is cut short keeps what it had:

    python benchmarks/gpu.py [--quick] [--only SECTION]... [--json PATH]

--dry-run takes every section's code path on the CPU with tiny sizes; its numbers mean nothing and
are written only where --json says.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu_analysis import analysis
from gpu_kernel import bandwidth, counts, tune
from gpu_operations import accumulation, operations
from gpu_questions import device_nvml, questions
from gpu_setting import Setting
from gpu_training import overhead, recipes

from precscope.timing.identify import identify
from precscope.timing.peaks import peak_of
from precscope.timing.reasons import NvmlUnavailable

RESULTS = Path(__file__).parent / "results"
TOTAL_S = 460.0
"""New sections are not begun after this."""

SECTIONS_S = {
    "counts": 60.0,
    "bandwidth": 45.0,
    "overhead": 80.0,
    "tune": 40.0,
    "questions": 60.0,
    "operations": 30.0,
    "accumulation": 20.0,
    "recipes": 180.0,
    "analysis": 150.0,
}
"""Sections in their order, with the seconds after which each takes up no new work."""


def sections(folder: Path | None) -> dict[str, Callable[[Setting], Any]]:
    """What is measured, by name."""
    found: dict[str, Callable[[Setting], Any]] = {
        "counts": counts,
        "bandwidth": bandwidth,
        "questions": questions,
        "overhead": overhead,
        "operations": operations,
        "accumulation": accumulation,
        "recipes": recipes,
        "analysis": lambda setting: analysis(setting, folder),
        "tune": tune,
    }
    return {name: found[name] for name in SECTIONS_S}


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    found: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        **{name: _version(name) for name in ("torch", "triton", "nvidia-ml-py", "numpy", "numba")},
        "device": str(device),
    }
    if device.type == "cuda":
        found["cudnn"] = torch.backends.cudnn.version()
        try:
            with device_nvml(Setting(device)) as nvml:
                found["facts"] = identify(device, nvml).to_dict()
        except NvmlUnavailable as missing:
            found["facts"] = identify(device, None).to_dict()
            found["nvml_reason"] = str(missing)
        found["peak_known"] = peak_of(found["facts"]["name"]) is not None
        found["facts"].pop("uuid")
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def folder_of(device: torch.device) -> Path:
    """Where the results of this device are kept."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "dry run"
    return RESULTS / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(report: dict[str, Any], path: Path | None) -> None:
    """The report so far, complete or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(plain(report), indent=1) + "\n")
    draft.replace(path)


def plain(value: Any) -> Any:
    """JSON values: no NaN, no infinity, names as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def measured(name: str, run: Callable[[Setting], Any], setting: Setting) -> dict[str, Any]:
    """One section, with its time; an error is kept and the next section still runs."""
    start = time.monotonic()
    try:
        found = {"found": run(setting)}
    except Exception as error:  # noqa: BLE001 - the sections that follow are still worth having
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"[:1000]}
    seconds = time.monotonic() - start
    print(f"{name}: {seconds:.1f} s{' FAILED' if 'error' in found else ''}", file=sys.stderr)
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return {**found, "seconds": seconds}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--dry-run", action="store_true", help="every code path, on the CPU")
    parser.add_argument("--only", action="append", choices=list(SECTIONS_S), metavar="SECTION")
    parser.add_argument("--skip", action="append", default=[], choices=list(SECTIONS_S))
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers here")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(argv)
    if not options.dry_run and not torch.cuda.is_available():
        print(
            "no CUDA device here: run this on a machine with one, or with --dry-run",
            file=sys.stderr,
        )
        return 1
    device = torch.device("cpu" if options.dry_run else "cuda:0")
    folder = None if options.dry_run else folder_of(device)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    path = options.json or (folder / "gpu.json" if folder else None)
    begun = time.monotonic()
    report: dict[str, Any] = {
        "environment": environment(device),
        "quick": options.quick,
        "dry_run": options.dry_run,
        "sections": {},
    }
    names = [n for n in (options.only or SECTIONS_S) if n not in options.skip]
    for name, run in sections(folder).items():
        if name not in names:
            continue
        left = TOTAL_S - (time.monotonic() - begun)
        if left <= 0:
            report["sections"][name] = {"error": "not begun: the time was up"}
            continue
        limit = min(SECTIONS_S[name], left)
        setting = Setting(device, options.quick, options.dry_run, limit)
        report["sections"][name] = measured(name, run, setting)
        report["seconds"] = time.monotonic() - begun
        write(report, path)
    print(json.dumps(plain(report), indent=1))
    return 1 if any("error" in found for found in report["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
