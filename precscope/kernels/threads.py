"""A few threads of our own for large tensors.

numba's parallel mode would bring a second OpenMP runtime beside torch's, which hangs or crashes after
a fork. The C functions release the GIL, so ordinary threads do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import torch

MOST_THREADS: Final = 8
"""More would only wait for memory."""


class _Pool:
    """The executor of this process, made when first needed."""

    def __init__(self) -> None:
        self.executor: ThreadPoolExecutor | None = None
        self.lock = threading.Lock()

    def submit(self, task: Callable[[], None]) -> Future[None]:
        with self.lock:
            if self.executor is None:
                self.executor = ThreadPoolExecutor(MOST_THREADS - 1, "precscope-kernel")
            return self.executor.submit(task)


_pool = _Pool()


def _forget_parent() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock in a locked state."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def thread_count() -> int:
    """Threads that a large tensor is shared among: torch's number, at most 8."""
    return min(torch.get_num_threads(), MOST_THREADS)


def run_all(tasks: list[Callable[[], None]]) -> None:
    """Run every task, the first one on the calling thread, and return when all are done.

    Where no thread can be had, as while the interpreter exits, the caller runs them all.
    """
    futures = [_start(task) for task in tasks[1:]]
    for task in tasks[:1]:
        task()
    wait(futures)
    for future in futures:
        future.result()


def _start(task: Callable[[], None]) -> Future[None]:
    try:
        return _pool.submit(task)
    except RuntimeError:
        done: Future[None] = Future()
        task()
        done.set_result(None)
        return done
