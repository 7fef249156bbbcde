"""A few threads of our own for large tensors.

numba's parallel mode would bring a second OpenMP runtime beside torch's, which hangs or crashes after
a fork. The C functions release the GIL, so ordinary threads do. They wait at a queue: an executor
with futures takes twice as long to hand a task over.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import torch

from precscope.kernels.processors import current_cpu, keep_off

MOST_THREADS: Final = 8
"""More would only wait for memory."""

Task = Callable[[], None]
Outcomes = SimpleQueue["BaseException | None"]


class _Pool:
    """The threads of this process, started when first needed."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Task, int, Outcomes]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0

    def submit(self, tasks: list[Task], outcomes: Outcomes) -> None:
        if self._threads < len(tasks):
            self._start(len(tasks))
        cpu = current_cpu()
        for task in tasks:
            self._tasks.put((task, cpu, outcomes))

    def _start(self, threads: int) -> None:
        with self._lock:
            while self._threads < min(threads, MOST_THREADS - 1):
                threading.Thread(target=self._work, name="precscope-kernel", daemon=True).start()
                self._threads += 1

    def _work(self) -> None:
        avoided = -1
        while True:
            task, cpu, outcomes = self._tasks.get()
            if cpu != avoided:
                keep_off(cpu)
                avoided = cpu
            outcomes.put(_outcome(task))
            # Or the last task's tensors would live until the next one.
            del task, outcomes


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


def run_all(tasks: list[Task]) -> None:
    """Run every task, the first one on the calling thread, and return when all are done.

    Where no thread can be had, as while the interpreter exits, the caller runs them all.
    """
    outcomes: Outcomes = SimpleQueue()
    own, others = tasks[:1], tasks[1:]
    try:
        _pool.submit(others, outcomes)
    except RuntimeError:
        own, others = tasks, []
    errors = [_outcome(task) for task in own]
    errors += [outcomes.get() for _ in others]
    for error in errors:
        if error is not None:
            raise error


def _outcome(task: Task) -> BaseException | None:
    try:
        task()
    except BaseException as error:  # noqa: BLE001 - raised again by run_all, on the calling thread
        return error
    return None
