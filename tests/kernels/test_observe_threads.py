"""Large tensors are shared among threads; counts never depend on it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from precscope.kernels import merge_rows, new_rows, observe, row
from precscope.kernels.cpu import PARALLEL_FROM
from precscope.kernels.reference import observe_reference
from precscope.kernels.threads import run_all

ROOT = Path(__file__).parents[2]
SUMS = slice(row.SUM_ABS, row.SUM_SQUARES + 1)


@pytest.fixture(autouse=True)
def _restore_thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def large() -> torch.Tensor:
    values = torch.randn(PARALLEL_FROM + 12_345, generator=torch.Generator().manual_seed(8))
    values[::1000] = 0.0
    values[-1] = torch.inf
    return values


def observed(tensor: torch.Tensor, threads: int) -> torch.Tensor:
    torch.set_num_threads(threads)
    result = new_rows(1)[0]
    observe(tensor, result)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_large_tensor_is_right_for_every_thread_count(
    large: torch.Tensor, dtype: torch.dtype
) -> None:
    tensor = large.to(dtype)
    expected = new_rows(1)[0]
    observe_reference(tensor, expected)
    for threads in (1, 2, 3):
        actual = observed(tensor, threads)
        sums, right = actual[SUMS].view(torch.float64), expected[SUMS].view(torch.float64)
        torch.testing.assert_close(sums, right, rtol=1e-12, atol=0.0)
        actual[SUMS] = expected[SUMS]
        assert torch.equal(actual, expected)


def test_the_same_threads_give_the_same_bits(large: torch.Tensor) -> None:
    first = observed(large, 3)
    assert all(torch.equal(observed(large, 3), first) for _ in range(3))


def test_several_user_threads_observe_at_once(large: torch.Tensor) -> None:
    expected = observed(large, 2)
    rows = new_rows(4)
    users = [threading.Thread(target=observe, args=(large, rows[i])) for i in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert all(torch.equal(result, expected) for result in rows)


def test_a_failing_task_is_told_after_all_are_done() -> None:
    done = []

    def fail() -> None:
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        run_all([lambda: done.append(1), fail, lambda: done.append(2)])
    assert sorted(done) == [1, 2]


@pytest.mark.parametrize("times", [1, 3])
def test_merging_rows_is_observing_both(times: int) -> None:
    first, second = torch.tensor([1.0, 3.0, 0.0]), torch.tensor([-8.0, 0.0, torch.inf])
    merged, added, expected = new_rows(3)
    observe(first, merged)
    observe(second, added)
    merge_rows(merged, added, times)
    observe(first, expected)
    observe(second.repeat(times), expected)
    assert torch.equal(merged, expected)


def run_script(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PREPARE = """
import os, torch
from precscope.kernels import new_rows, observe
torch.set_num_threads(2)
large, rows = torch.ones(3_000_000), new_rows(2)
observe(large, rows[0])
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_a_forked_child_observes() -> None:
    script = """
child = os.fork()
if child == 0:
    observe(large, rows[1])
    os._exit(0 if torch.equal(rows[0], rows[1]) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_script(PREPARE + script) == "0\n"


def test_observing_while_the_interpreter_exits() -> None:
    script = """
import atexit
@atexit.register
def last():
    observe(large, rows[1])
    print(torch.equal(rows[0], rows[1]))
"""
    assert run_script(PREPARE + script) == "True\n"
