"""Our threads make room for the caller; nobody else's affinity is touched."""

from __future__ import annotations

import os
import threading

import pytest

from precscope.kernels.processors import current_cpu, keep_off

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system has no processor affinity"
)


def affinity_after(cpu: int) -> set[int]:
    seen: list[set[int]] = []

    def work() -> None:
        keep_off(cpu)
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return seen[0]


def test_a_thread_keeps_off_one_processor_and_the_caller_off_none() -> None:
    before = os.sched_getaffinity(0)
    cpu = min(before)
    assert affinity_after(cpu) == (before - {cpu} or before)
    assert os.sched_getaffinity(0) == before


def test_an_unknown_processor_changes_nothing() -> None:
    assert affinity_after(-1) == os.sched_getaffinity(0)


def test_the_current_processor_is_one_we_may_use() -> None:
    assert current_cpu() in {-1, *os.sched_getaffinity(0)}
