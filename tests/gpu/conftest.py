"""Every test of this folder needs a CUDA device; ``-ra`` says that it was not run without one."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask for the marker before the conftest above looks for it.

    Warnings are shown, not raised: those of a driver, of cuBLAS or of a compiler that nobody
    has met yet say nothing about what a test asks.
    """
    for item in items:
        if HERE in item.path.parents:
            if not item.get_closest_marker("gpu"):
                raise pytest.UsageError(f"{item.nodeid} needs the marker gpu")
            item.add_marker(pytest.mark.filterwarnings("default"))
