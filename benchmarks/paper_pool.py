"""Worker processes, each doing one task at a time; killed with whoever started them."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paper_plan import Task

WORKER = Path(__file__).with_name("paper_tasks.py")


@dataclass(slots=True)
class Worker:
    """A process and what it is at."""

    process: subprocess.Popen[str]
    task: Task | None = None
    share_done: float = 0.0
    listener: threading.Thread = field(default_factory=threading.Thread)


class Pool:
    """A few workers that take tasks and answer with cells.

    Args:
        jobs: how many.
        size: sizes of the examples, ``quick``, ``small`` or ``large``.
        threads: of each worker.
    """

    def __init__(self, jobs: int, size: str, threads: int = 1) -> None:
        self._environment = {
            **os.environ,
            "PRECSCOPE_PAPER_SIZE": size,
            "OMP_NUM_THREADS": str(threads),
        }
        self._messages: queue.Queue[tuple[Worker, str]] = queue.Queue()
        self.workers = [self._start() for _ in range(jobs)]

    def give(self, task: Task, context: dict[str, Any]) -> None:
        """Hand the task to an idle worker."""
        worker = next(w for w in self.workers if w.task is None)
        if worker.process.poll() is not None:
            self._replace(worker)
        worker.task, worker.share_done = task, 0.0
        assert worker.process.stdin is not None
        worker.process.stdin.write(json.dumps({"task": asdict(task), "context": context}) + "\n")
        worker.process.stdin.flush()

    @property
    def running(self) -> list[Task]:
        """What is being done."""
        return [worker.task for worker in self.workers if worker.task is not None]

    @property
    def is_full(self) -> bool:
        """Whether no worker is idle."""
        return len(self.running) == len(self.workers)

    def wait(self, seconds: float) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Listen for one message; yields the task that ended with it, if any, and its cell."""
        try:
            worker, line = self._messages.get(timeout=seconds)
        except queue.Empty:
            return
        cell = self._cell_of(worker, line)
        if cell is not None and worker.task is not None:
            task, worker.task = worker.task, None
            yield task, cell

    def close(self) -> None:
        """End every worker, whatever it is at."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.wait()
            worker.listener.join()
            for stream in (worker.process.stdin, worker.process.stdout):
                if stream is not None:
                    stream.close()

    def _cell_of(self, worker: Worker, line: str) -> dict[str, Any] | None:
        if not line:
            return {"error": f"the worker ended with status {worker.process.wait()}"}
        message: dict[str, Any] = json.loads(line)
        if "cell" in message:
            cell: dict[str, Any] = message["cell"]
            return cell
        worker.share_done = message["done"] / max(1, message["steps"])
        return None

    def _start(self) -> Worker:
        # A session of its own: Ctrl-C is for us, and we end the workers ourselves.
        process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        worker = Worker(process)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _listen(self, worker: Worker) -> None:
        assert worker.process.stdout is not None
        for line in worker.process.stdout:
            self._messages.put((worker, line))
        self._messages.put((worker, ""))

    def _replace(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.workers.append(self._start())
        worker.process.wait()
