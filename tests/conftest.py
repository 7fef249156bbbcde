"""For every test: a known random state, nothing left behind, and skips that say why."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

# Before torch is imported, and for the processes that tests start: on a small machine the stalls
# of two threads that wait for each other cost more than the second thread brings.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell without job control starts its background jobs deaf to Ctrl-C, and they hand that on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.reports.chromium import executable as chromium
from tests.support.program_state import program_state, residue

SEED = 20180218

# How busy the machine is says nothing about the code; and a failure in CI must come again.
settings.register_profile("precscope", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("precscope")


@pytest.fixture(autouse=True, scope="session")
def _first_seed() -> None:
    """Fixtures of a wider scope than one test start from the same numbers, too."""
    _seed()


@pytest.fixture(autouse=True)
def _no_residue() -> Iterator[None]:
    """Fail the test that leaves a mode, hook, setting or patch in torch.

    First of all fixtures, so that it looks last, when monkeypatch and the rest are undone.
    """
    _seed()
    before = program_state()
    yield
    left = residue(before, program_state())
    assert not left, "left behind: " + "; ".join(left)


def _seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the global stream is what users' code draws from
    torch.manual_seed(SEED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; ``-ra`` prints each reason at the end."""
    missing = {marker: reason for marker, reason in _missing().items() if reason}
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _missing() -> dict[str, str]:
    return {
        "gpu": "" if torch.cuda.is_available() else "NOT RUN: needs a CUDA device",
        "browser": "" if chromium() else "NOT RUN: needs chromium or google-chrome on PATH",
        "distributed": "" if torch.distributed.is_available() else "NOT RUN: no torch.distributed",
    }
