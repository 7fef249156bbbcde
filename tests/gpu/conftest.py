"""Every test of this folder needs a CUDA device; ``-ra`` says that it was not run without one."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them before the conftest above looks for the marker."""
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("gpu"):
            raise pytest.UsageError(f"{item.nodeid} needs the marker gpu")
