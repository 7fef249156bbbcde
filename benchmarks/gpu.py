"""Everything that only a CUDA GPU can tell, in one command that ends within eight minutes.

Prints one JSON and writes it after every section, so that a run that is cut short keeps what it had:

    python benchmarks/gpu.py [--quick] [--only SECTION]... [--json PATH]

Each section is a process of its own with a time of its own: one that crashes or hangs loses itself only.
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
from gpu_apart import apart
from gpu_kernel import bandwidth, counts, tune
from gpu_operations import accumulation, operations
from gpu_questions import device_nvml, questions
from gpu_setting import Setting
from gpu_training import overhead, recipes

from precscope.timing.identify import identify
from precscope.timing.peaks import peak_of
from precscope.timing.reasons import NvmlUnavailable

RESULTS = Path(__file__).parent / "results"
TOTAL_S = 470.0
"""What runs then is killed: eight minutes, less the time to write."""

LEAST_S = 12.0
"""With less time left a section is not begun: it takes half of that to start."""

SECTIONS_S = {
    "counts": 45.0,
    "bandwidth": 30.0,
    "overhead": 50.0,
    "recipes": 120.0,
    "analysis": 115.0,
    "questions": 45.0,
    "operations": 25.0,
    "accumulation": 15.0,
    "tune": 20.0,
}
"""Sections in their order, with the seconds after which each takes up no new work."""


def sections(folder: Path | None) -> dict[str, Callable[[Setting], Any]]:
    """What is measured, by name."""
    found: dict[str, Callable[[Setting], Any]] = {
        "counts": counts,
        "bandwidth": bandwidth,
        "overhead": overhead,
        "recipes": recipes,
        "analysis": lambda setting: analysis(setting, folder),
        "questions": questions,
        "operations": operations,
        "accumulation": accumulation,
        "tune": tune,
    }
    return found


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


def folder_of(name: str) -> Path:
    """Where the results of a device of this name are kept."""
    return RESULTS / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write(report: dict[str, Any], path: Path | None) -> None:
    """The report so far, complete or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(text_of(report) + "\n")
    draft.replace(path)


def text_of(report: dict[str, Any]) -> str:
    """As JSON; what it has no word for goes by its name, so that nothing keeps the rest back."""
    return json.dumps(plain(report), indent=1, default=str)


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
    parser.add_argument("--apart", action="store_true", help="processes also in a dry run")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
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
    if options.section is not None:
        return one_section(options)
    return all_sections(options)


def one_section(options: argparse.Namespace) -> int:
    """In the process of a section: write what was found, and before that what there is of it."""
    device = torch.device("cpu" if options.dry_run else "cuda:0")
    if options.section == "environment":
        write({"found": environment(device)}, options.json)
        return 0
    setting = Setting(
        device,
        options.quick,
        options.dry_run,
        options.limit,
        keep=lambda found: write({"partial": found}, options.json),
    )
    found = measured(options.section, sections(options.folder)[options.section], setting)
    kept = json.loads(options.json.read_text()) if options.json.exists() else {}
    write({**kept, **found} if "error" in found else found, options.json)
    return 0


def all_sections(options: argparse.Namespace) -> int:
    """Every section in turn; this process never touches the GPU, or it would be shared."""
    begun = time.monotonic()
    own = ["--quick"] * options.quick + ["--dry-run"] * options.dry_run
    known = _run("environment", 60.0, TOTAL_S, own, options)
    facts = known.get("found", known)
    folder = None if options.dry_run else results_folder(options, facts)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        own += ["--folder", str(folder)]
    path = options.json or (folder / "gpu.json" if folder else None)
    report: dict[str, Any] = {
        "environment": facts,
        "quick": options.quick,
        "dry_run": options.dry_run,
        "sections": {},
    }
    for name in SECTIONS_S:
        if name in options.skip or name not in (options.only or SECTIONS_S):
            continue
        left = TOTAL_S - (time.monotonic() - begun)
        if left < LEAST_S:
            report["sections"][name] = {"error": "not begun: the time was up"}
        else:
            limit = min(SECTIONS_S[name], left)
            report["sections"][name] = _run(name, limit, left, own, options)
        report["seconds"] = time.monotonic() - begun
        write(report, path)
    print(text_of(report))
    return 1 if any("error" in found for found in report["sections"].values()) else 0


def results_folder(options: argparse.Namespace, facts: dict[str, Any]) -> Path:
    """Where the numbers and, beside them, the page go."""
    if options.json is not None:
        return Path(options.json).resolve().parent
    return folder_of(facts.get("facts", {}).get("name", "unknown"))


def _run(
    name: str, limit: float, hard: float, own: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """A section in a process of its own; in this one in a dry run, which has no GPU to lose."""
    if options.apart or not options.dry_run:
        return apart(name, limit, hard, own)
    if name == "environment":
        return {"found": environment(torch.device("cpu"))}
    setting = Setting(torch.device("cpu"), options.quick, options.dry_run, limit)
    return measured(name, sections(None)[name], setting)


if __name__ == "__main__":
    sys.exit(main())
