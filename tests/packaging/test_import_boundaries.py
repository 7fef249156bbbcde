"""What importing the library brings in, asked of a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRAWING = ["rich", "plotly", "click", "precscope_cli", "precscope_reports"]
HEAVY = ["torch", "numba", "numpy", *DRAWING]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
# __main__ is the command line's door, not part of the library; integrations need what they are for.
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if not name.endswith(".__main__") and ".integrations." not in name:
        importlib.import_module(name)
assert len(names) >= int(sys.argv[2]), names
print(*(name for name in sys.argv[3:] if name in sys.modules))
"""
IMPORT_ONLY = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(name for name in sys.argv[3:] if name in sys.modules))
"""
PUBLIC_NAMES = """
import importlib, sys
package = importlib.import_module(sys.argv[1])
assert len([getattr(package, name) for name in package.__all__]) >= int(sys.argv[2])
print(*(name for name in sys.argv[3:] if name in sys.modules))
"""


def brought_in(code: str, package: str, at_least: int, names: list[str], root: Path) -> list[str]:
    """Those of ``names`` that a fresh interpreter has loaded after running ``code``."""
    path = os.pathsep.join([str(root), *(str(ROOT / part) for part in ("cli", "reports"))])
    done = subprocess.run(
        [sys.executable, "-c", code, package, str(at_least), *names],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_module_of_the_library_draws_or_reads_a_command_line() -> None:
    assert brought_in(IMPORT_EVERYTHING, "precscope", 30, DRAWING, ROOT) == []


def test_importing_the_package_costs_next_to_nothing() -> None:
    assert brought_in(IMPORT_ONLY, "precscope", 0, HEAVY, ROOT) == []


def test_the_kernel_compiler_is_not_loaded_by_any_public_name() -> None:
    assert brought_in(PUBLIC_NAMES, "precscope", 9, ["numba"], ROOT) == []


@pytest.mark.parametrize("name", DRAWING)
def test_these_tests_can_fail(tmp_path: Path, name: str) -> None:
    package = tmp_path / "guilty" / "room"
    package.mkdir(parents=True)
    (tmp_path / "guilty" / "__init__.py").write_text("")
    (package / "__init__.py").write_text(f"import {name}\n")
    assert name in brought_in(IMPORT_EVERYTHING, "guilty", 1, DRAWING, tmp_path)
