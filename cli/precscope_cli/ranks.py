"""``torchrun ... -m precscope analyze train.py``: one Recording per rank, one report by rank 0.

The processes agree over the store that torchrun keeps for its workers, under a prefix of ours,
before and after the script runs; never during a step of it.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from precscope.errors import UsageError
from precscope.recording import Recording
from precscope.recording.ranks import rank_path, recordings_at
from precscope.script import Script
from precscope.script.additions import add_documents
from precscope_cli.fresh import render_fresh
from precscope_cli.options import Request
from precscope_cli.output import (
    RECORDING,
    check_writable_file,
    claim_folder,
    drop_folder,
)
from precscope_cli.progress import Display
from precscope_cli.render import RenderJob
from precscope_cli.script import display_beside_script, record_script
from precscope_cli.streams import put, tell

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

MEETING_SECONDS = 60.0
"""How long ranks may be apart at the start, and at the end of a script that ended well."""

FAILED_SECONDS = 5.0
"""How long rank 0 waits for the others after its own script failed: they may hang in a collective
until torchrun, which waits for rank 0, ends them."""

NOT_AGAIN = (
    "torchrun started the ranks once. This runs the script with them in one process, whose batch "
    "is that of one rank"
)

NO_STORE = "RANK and WORLD_SIZE are set, but not by torchrun: start the ranks with torchrun"


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among those of a distributed training.

    Attributes:
        number: 0 for the one that reports.
        count: how many there are.
    """

    number: int
    count: int


def rank_here() -> Rank | None:
    """The rank that the environment names; None in a training of one process."""
    number, count = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not (number.isdecimal() and count.isdecimal()) or int(count) < 2:
        return None
    return Rank(int(number), int(count))


def run_rank(rank: Rank, request: Request, command: str, script: Script) -> None:
    """Run the script as one rank; rank 0 renders what all of them recorded.

    Raises:
        UsageError: the ranks were not started by torchrun.
        click.exceptions.Exit: the script's own exit code, if it is not 0.
    """
    store = _store()
    folder = _agreed_folder(store, rank, request, script.name)
    request.settings["ranks"] = rank.count
    first = rank.number == 0
    with display_beside_script(request.quiet or not first) as display:
        path = rank_path(folder / RECORDING, rank.number)
        code = record_script(script, request, path, command, display)
        if path.exists():
            _tell_how_to_train(path, in_one_process(script, request))
        store.set(f"ended/{rank.number}", str(code))
        if first:
            _stay()
            _wait_for_all(store, rank.count, FAILED_SECONDS if code else MEETING_SECONDS)
            _report(request, folder, rank.count, display, in_one_process(script, request))
    if code:
        raise click.exceptions.Exit(code)


def _store() -> Store:
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UsageError(NO_STORE)
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"precscope/{attempt}", TCPStore(host, port, is_master=False))


def _agreed_folder(store: Store, rank: Rank, request: Request, name: str) -> Path:
    if rank.number == 0:
        if request.json not in {None, "-"}:
            check_writable_file(Path(str(request.json)))
        folder = claim_folder(request.output, name, time.localtime()).absolute()
        store.set("folder", str(folder))
    folder = Path(store.get("folder").decode())
    folder.mkdir(parents=True, exist_ok=True)  # on another machine there may be none yet
    return folder


def _wait_for_all(store: Store, count: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    keys = [f"ended/{number}" for number in range(count)]
    while not all(store.check([key]) for key in keys) and time.monotonic() < until:
        time.sleep(0.05)


def in_one_process(script: Script, request: Request) -> str:
    """The command that runs the script again with each recipe.

    One process meets nobody whom a recipe could leave behind in a collective. It is started by
    torchrun all the same, because the script may ask for a process group.
    """
    words = ["torchrun", "--nproc-per-node", "1", "-m", "precscope", "analyze"]
    words += ["-m", script.target] if script.is_module else [script.target]
    words += ["--steps", str(request.settings["steps"])] if "steps" in request.settings else []
    return shlex.join([*words, *(["--", *script.arguments] if script.arguments else [])])


def _tell_how_to_train(path: Path, command: str) -> None:
    """Put the command into the finding that says that the script was not run again."""
    document = Recording.open(path).document("script") or {}
    entries = [
        {**entry, "reason": f"{NOT_AGAIN}: {command}"} for entry in document.get("not_run") or ()
    ]
    if entries:
        add_documents(path, {"script": {**document, "not_run": entries}})


def _report(
    request: Request, folder: Path, count: int, display: Display, train_command: str
) -> None:
    from precscope_cli.run import Results, render_job

    found = recordings_at(folder / RECORDING)
    if not found[0].exists():
        drop_folder(folder)
        return
    if len(found) < count:
        tell(f"precscope: {len(found)} of {count} ranks left a Recording in {folder}")
    display.phase("render", None)
    copy = None if request.json in {None, "-"} else Path(str(request.json))
    job = render_job(request, Results(folder), copy, "analyze", None)
    put(render_fresh(_of_ranks(job, found, train_command)).text)


def _of_ranks(job: RenderJob, recordings: list[Path], train_command: str) -> RenderJob:
    paths = [os.path.relpath(path) for path in recordings]
    files = {what: path for what, path in job.files.items() if what != RECORDING}
    files |= {Path(path).name: path for path in paths}
    again = f"{shlex.join(['precscope', 'report', *paths])}  # this report again"
    commands = (f"{train_command}  # train with each recipe, in one process", again)
    return replace(job, recordings=tuple(paths), files=files, next_commands=commands)


def _stay() -> None:
    """Once a rank has failed, torchrun sends SIGTERM to the others, and SIGKILL 30 s later."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
