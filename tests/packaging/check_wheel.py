"""What a wheel may and must contain: ``python tests/packaging/check_wheel.py dist/*.whl``."""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A tool that runs users' scripts must not install a ``cli`` or ``reports`` beside them.
OURS = re.compile(r"precscope(_cli|_reports)?/|precscope-[^/]+\.dist-info/")
SOURCES = ("precscope", "cli/precscope_cli", "reports/precscope_reports")


def required_names() -> set[str]:
    """Every file of the three source folders, as it is called inside the wheel."""
    files = (path for source in SOURCES for path in (ROOT / source).rglob("*") if path.is_file())
    names = (path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts)
    return {re.sub(r"^(cli|reports)/", "", name) for name in names}


def complaints(names: Iterable[str], required: Iterable[str]) -> list[str]:
    """One line per name that has no business in the wheel, and per name that is missing."""
    names = set(names)
    foreign = [f"foreign: {name}" for name in sorted(names) if not OURS.match(name)]
    missing = [f"missing: {name}" for name in sorted(set(required) - names)]
    return foreign + missing


def main(wheels: list[str]) -> int:
    """Check each wheel; returns the exit code."""
    found = [f"no wheel in {wheels}"] if len(wheels) != 1 else []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            found += complaints(archive.namelist(), required_names())
    print("\n".join(found) or f"{wheels[0]}: nothing foreign, nothing missing")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
