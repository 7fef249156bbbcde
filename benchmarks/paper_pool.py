"""Processes, one for each task; ended with whoever started them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from paper_plan import Task
from paper_tasks import work

PRELOADED = ["torch", "precscope.analysis", "precscope.training"]
"""Imported once, in the process that all others are forked from."""


@dataclass(slots=True)
class Worker:
    """A process and what it is at."""

    process: BaseProcess
    messages: Connection
    task: Task
    share_done: float = 0.0


class Pool:
    """At most so many processes at once. Each does one task, answers with its cell, and ends.

    A task has a process of its own so that its memory is its own: model files that were loaded
    stay loaded, with the data they hold.

    Args:
        jobs: how many at once.
        size: sizes of the examples, ``quick``, ``small`` or ``large``.
    """

    def __init__(self, jobs: int, size: str) -> None:
        # Read by numerical libraries as they are imported, and by the examples.
        os.environ.update(PRECSCOPE_PAPER_SIZE=size, OMP_NUM_THREADS="1")
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(PRELOADED)
        self._jobs = jobs
        self.workers: list[Worker] = []

    @property
    def running(self) -> list[Task]:
        """What is being done."""
        return [worker.task for worker in self.workers]

    @property
    def is_full(self) -> bool:
        """Whether no further task can be given."""
        return len(self.workers) >= self._jobs

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of this process and all workers now; pages they share count each time.

        None where the system does not tell (``/proc`` of Linux).
        """
        pids = [os.getpid(), *(worker.process.pid for worker in self.workers)]
        try:
            return sum(_resident_bytes(pid) for pid in pids if pid is not None)
        except OSError:
            return None

    def give(self, task: Task, context: dict[str, Any]) -> None:
        """Start a process on the task."""
        ours, theirs = self._processes.Pipe(duplex=False)
        process = self._processes.Process(target=work, args=(theirs, task, context))
        process.start()
        theirs.close()
        self.workers.append(Worker(process, ours, task))

    def wait(self, seconds: float) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Listen for messages; yields each task that ended with them, and its cell."""
        ready = wait([worker.messages for worker in self.workers], seconds)
        for worker in [worker for worker in self.workers if worker.messages in ready]:
            cell = _cell_of(worker)
            if cell is not None:
                self._end(worker)
                yield worker.task, cell

    def close(self) -> None:
        """End every process, whatever it is at."""
        for worker in list(self.workers):
            worker.process.terminate()
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.process.join()
        worker.messages.close()


def _cell_of(worker: Worker) -> dict[str, Any] | None:
    try:
        message: dict[str, Any] = worker.messages.recv()
    except EOFError:
        worker.process.join()
        return {"error": f"the process ended with status {worker.process.exitcode}"}
    if "cell" in message:
        cell: dict[str, Any] = message["cell"]
        return cell
    worker.share_done = message["done"] / max(1, message["steps"])
    return None


def _resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
