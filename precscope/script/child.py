"""The process of a script: instruments on, the script as ``__main__``, instruments off."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch

from precscope.script.discovery import Discovery
from precscope.script.dtypes import DtypeRun
from precscope.script.hooks import Hooks
from precscope.script.job import Events, Job
from precscope.script.observation import Observation
from precscope.script.rerun import Rerun
from precscope.script.seeds import OwnSeeds, seed_everything
from precscope.script.target import Script, folder_of, run_as_main
from precscope.script.traces import hide_our_frames


def main(job_path: str, loaded: frozenset[str]) -> None:
    """Run a job; ends as the script ends.

    Args:
        job_path: file of the job.
        loaded: modules that were loaded once torch and NumPy were imported.
    """
    job = Job.read(Path(job_path))
    events = Events(job.events)
    discovery = Discovery()
    listener = _listener(job, events, discovery)
    _warm_up(observes=job.recipe is None or job.wants_dtypes)
    _forget_shadowed(job.script, loaded)
    if job.seed is not None:
        seed_everything(job.seed)
    if isinstance(listener, Rerun) and job.seed is not None:
        listener.seeds = OwnSeeds(job.seed, job.seed_shift)
        listener.seeds.listen()
    if not job.keep_compile:
        torch.compiler.set_stance("force_eager")
    # Of our one global hook; it finds models, and does nothing while a graph is traced.
    warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global")
    _save_on_sigterm(listener)
    _save_on_os_exit(listener)
    hooks = Hooks(listener, discovery)
    if hasattr(os, "register_at_fork"):  # DataLoader workers have nothing of ours
        os.register_at_fork(after_in_child=hooks.remove)
    _run(job.script, hooks, listener, events)


def _listener(job: Job, events: Events, discovery: Discovery) -> Observation | Rerun:
    if job.recipe is None:
        return Observation(job, events)
    return (DtypeRun if job.wants_dtypes else Rerun)(job, events, discovery)


def _run(script: Script, hooks: Hooks, listener: Observation | Rerun, events: Events) -> None:
    pid = os.getpid()
    gc.freeze()  # what is there already is neither an optimizer nor a scaler of the script's
    try:
        run_as_main(script)
    except BaseException as error:
        if not isinstance(error, SystemExit) and os.getpid() == pid:
            events.tell("failed", error=type(error).__name__)
        hide_our_frames()
        raise
    finally:
        if os.getpid() == pid:
            hooks.remove()
            listener.close()
            gc.unfreeze()


def _warm_up(observes: bool) -> None:
    """Load what is otherwise loaded at first use, while nothing of the user's can shadow it."""
    if observes:
        from precscope import kernels
        from precscope.kernels.row import ROW_SLOTS

        kernels.observe(torch.ones(8), torch.zeros(ROW_SLOTS, dtype=torch.int64))
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def _forget_shadowed(script: Script, loaded: frozenset[str]) -> None:
    """What only we have loaded must not hide a file of the same name beside the script."""
    folder = folder_of(script)
    for name in [name for name in sys.modules if name not in loaded and "." not in name]:
        if (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists():
            for inner in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[inner]


def _save_on_sigterm(listener: Observation | Rerun) -> None:
    """SIGTERM ends a plain Python at once; here too, after the Recording is written."""
    pid = os.getpid()

    def save_and_die(number: int, frame: Any) -> None:
        if os.getpid() == pid:
            listener.save_at_signal()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, save_and_die)


def _save_on_os_exit(listener: Observation | Rerun) -> None:
    """``os._exit`` runs no ``finally``: the Recording is written before it."""
    pid, leave = os.getpid(), os._exit

    @functools.wraps(leave)
    def save_and_leave(status: int) -> NoReturn:
        if os.getpid() == pid:
            listener.save_at_signal()
        leave(status)

    os._exit = save_and_leave
