"""The paper, reproduced: six kinds of network on real data, with and without each technique.

    python benchmarks/paper.py                         # or make paper; resumes what was begun
    python benchmarks/paper.py --only gan              # one domain; may be repeated
    python benchmarks/paper.py --quick                 # the same in three minutes, for the tests
    python benchmarks/paper.py --size large --device cuda

Every finished run is kept at once in ``paper.json`` under ``--output``: Ctrl-C loses only what is
being trained, and the same command goes on. At the end, and after an interruption too, the page is
written beside it: ``paper.md``, ``paper.html`` and the figures; with ``--write docs/paper.md``
the document there as well.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from paper_page import write_page
from paper_plan import ADVISED, DOMAINS, Task, is_ready, pending
from paper_pool import Pool
from paper_state import State

from precscope.environment import choose_device, environment

RESULTS = Path(__file__).parent / "results"
INTERRUPTED = 130
STATUS_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is left to run, then write the page; returns the exit status."""
    options = _parser().parse_args(arguments)
    size = "quick" if options.quick else options.size
    device = choose_device(options.device)
    where = environment(device, 0, "python benchmarks/paper.py")
    folder = options.output or RESULTS / _slug(device.type, where["device_name"])
    if options.fresh:
        (folder / "paper.json").unlink(missing_ok=True)
    state = State(folder / "paper.json", size, where)
    domains = options.only or [domain.name for domain in DOMAINS]
    left = _Left(state, domains, size, options.seeds, options.jobs)
    try:
        _run(state, left, str(device), Pool(options.jobs, size))
        status = 0
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; the same command goes on", flush=True)
        status = INTERRUPTED
    for path in write_page(state.values, folder, options.write):
        print(path)
    return status


class _Left:
    """What is left to do, and about how long it takes."""

    def __init__(self, state: State, domains: list[str], size: Any, seeds: int, jobs: int) -> None:
        self._state = state
        self._plan = (domains, size, seeds)
        self._jobs = jobs

    def tasks(self, running: list[Task]) -> list[Task]:
        """Tasks that nobody does yet, in order."""
        domains, size, seeds = self._plan
        left = pending(domains, size, seeds, self._state.cells)
        return [task for task in left if task not in running]

    def words(self, running: list[Task]) -> str:
        """Cells done, cells left, minutes left."""
        left = [*self.tasks(running), *running]
        done = len(self._state.cells)
        known = [cell["seconds"] for cell in self._state.cells.values() if "seconds" in cell]
        if not known:
            return f"{done} done, {len(left)} to go"
        seconds = sum(self._seconds(task, sum(known) / len(known)) for task in left) / self._jobs
        return f"{done} done, {len(left)} to go, about {seconds / 60:.0f} min left"

    def _seconds(self, task: Task, otherwise: float) -> float:
        """As the same work took before, or the same domain, or any."""
        cells = self._state.cells.items()
        alike = f"{task.domain}/{task.kind}/{task.recipe}/", f"{task.domain}/{task.kind}/"
        for start in (*alike, f"{task.domain}/"):
            known = [c["seconds"] for key, c in cells if key.startswith(start) and "seconds" in c]
            if known:
                return float(sum(known) / len(known))
        return otherwise


def _run(state: State, left: _Left, device: str, pool: Pool) -> None:
    shown, before = 0.0, time.monotonic()
    try:
        while pool.running or left.tasks([]):
            _feed(state, left, device, pool)
            now = time.monotonic()
            state.note(now - before, pool.memory_bytes)
            before = now
            for task, cell in pool.wait(STATUS_SECONDS):
                state.add(task, cell)
                outcome = cell.get("error") or f"{cell['seconds']:.0f} s"
                print(f"\r\033[K{task.key}: {outcome}; {left.words(pool.running)}", flush=True)
            if sys.stdout.isatty() and time.monotonic() - shown > STATUS_SECONDS:
                shown = time.monotonic()
                print(f"\r\033[K{_at_work(pool)}", end="", flush=True)
    finally:
        pool.close()


def _feed(state: State, left: _Left, device: str, pool: Pool) -> None:
    for task in left.tasks(pool.running):
        if pool.is_full:
            return
        if is_ready(task, state.cells):
            _give(state, task, device, pool)


def _give(state: State, task: Task, device: str, pool: Pool) -> None:
    context: dict[str, Any] = {"size": state.values["size"], "device": device}
    if task.recipe == ADVISED:
        advice = state.cells[Task(task.domain, "advise").key]
        if "recipe" not in advice:
            state.add(task, {"error": "there is no advice to train by"})
            return
        context["recipe"] = advice["recipe"]
    pool.give(task, context)


def _at_work(pool: Pool) -> str:
    return " · ".join(f"{w.task.key} {w.share_done:.0%}" for w in pool.workers)


def _slug(kind: str, name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower())[:2]
    return "-".join([kind, *words])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [domain.name for domain in DOMAINS]
    parser.add_argument("--only", action="append", choices=names, help="this domain; repeatable")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--size", choices=["small", "large"], default="small")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each recipe (default 3)")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:i (default cpu)")
    jobs = min(4, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=jobs, help=f"processes (default {jobs})")
    parser.add_argument("--output", type=Path, help="folder (default benchmarks/results/<device>)")
    parser.add_argument("--fresh", action="store_true", help="forget what was run before")
    parser.add_argument("--write", type=Path, help="also write the document here: docs/paper.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
