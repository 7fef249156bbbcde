"""Reproduce the two experiments behind the advice, on any machine, in plain torch.

    python benchmarks/validation.py                              # a few minutes on one core
    python benchmarks/validation.py --quick                      # half a minute, rougher
    python benchmarks/validation.py --write docs/validation.md   # replace the tables there

Needs scikit-learn for the digits.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import sklearn
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import validation_gradients  # noqa: E402 - found through the line above
import validation_updates  # noqa: E402

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
FULL_PROBES = ((0, 40, 120, 250), (-10, -6, -3, 0, 3, 6, 10, 15, 20, 24))
QUICK_PROBES = ((0, 40), (-6, 0, 6, 15))
"""Training steps, and log2 of loss scales, at which the gradients are compared."""

PAGE = f"# Validation\n\nMeasured by `benchmarks/validation.py`.\n\n{BEGIN}\n{END}\n"


def main() -> None:
    """Print the tables as markdown; with ``--write``, put them between the marks of a file."""
    arguments = _arguments()
    torch.set_num_threads(1)
    lines = []
    for line in report(arguments.quick):
        print(line, flush=True)
        lines.append(line)
    if arguments.write:
        write_section(arguments.write, "\n".join(lines))


def report(quick: bool) -> Iterator[str]:
    """The markdown lines: circumstances, then one section per experiment."""
    started = time.perf_counter()
    yield from circumstances(f"python benchmarks/validation.py{' --quick' if quick else ''}")
    yield from _section(validation_updates.__doc__)
    yield from validation_updates.table(*((1, 600) if quick else (5, 1500)))
    yield from _section(validation_gradients.__doc__)
    probed, scales = QUICK_PROBES if quick else FULL_PROBES
    yield from validation_gradients.table(probed, scales)
    yield ""
    yield f"Took {time.perf_counter() - started:.0f} s."


def write_section(path: Path, section: str, begin: str = BEGIN, end: str = END) -> None:
    """Replace what is between the marks in ``path``; a missing file is made first."""
    page = path.read_text(encoding="utf-8") if path.exists() else PAGE
    if begin not in page or end not in page:
        raise SystemExit(f"{path} lacks the lines {begin} and {end}: add them where the tables go")
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    path.write_text(f"{head}{begin}\n{section}\n{end}{tail}", encoding="utf-8")


def circumstances(command: str) -> Iterator[str]:
    """When, where and with which versions ``command`` is run, as a markdown list."""
    today = datetime.datetime.now(datetime.timezone.utc).date()
    yield f"- Date: {today}"
    yield f"- Machine: {_processor()}, one thread"
    yield (
        f"- Versions: Python {platform.python_version()}, torch {torch.__version__},"
        f" scikit-learn {sklearn.__version__}"
    )
    yield f"- Command: `{command}`"


def _section(doc: str | None) -> Iterator[str]:
    title, _, told = (doc or "").strip().partition("\n")
    yield from ("", f"## {title.rstrip('.')}", *told.splitlines(), "")


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    text = known.read_text(encoding="utf-8") if known.exists() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return named.group(1) if named else platform.processor() or platform.machine()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Reproduce the tables of docs/validation.md.")
    parser.add_argument("--quick", action="store_true", help="fewer steps, seeds and scales")
    parser.add_argument("--write", type=Path, metavar="FILE", help="markdown file to update")
    return parser.parse_args()


if __name__ == "__main__":
    main()
