"""Rendering in a process that has never seen the user's code.

Once the folder of a model file has been on ``sys.path``, whatever is imported or first used
after it may be the user's own ``random.py``, ``json.py`` or ``logging.py``. A fresh interpreter
in isolated mode starts with the standard library and the environment's packages. Our packages
are taken from where they are running now, whatever else is installed; everything else that was
importable when precscope started is appended at the end, so that editable installs and
``PYTHONPATH`` keep working and can shadow nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import precscope
import precscope_cli
from precscope.errors import PrecscopeError
from precscope_cli.render import Rendered, RenderJob

STARTUP_PATH = tuple(sys.path)

BOOTSTRAP = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
clean = list(sys.path)
sys.path[:0] = {homes!r}
import precscope, precscope_cli, precscope_reports
sys.path[:] = clean + [path for path in {others!r} if path not in clean]
from precscope_cli.render import child_main
child_main()
"""


def render_fresh(job: RenderJob) -> Rendered:
    """Like ``render``, in a process of its own. Ctrl-C is left to this process to handle.

    Raises:
        PrecscopeError: what ``render`` raised there, or the process failed; its cause then has
            all that the process said.
    """
    with subprocess.Popen(
        _command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            reply, complaints = process.communicate(json.dumps(asdict(job)).encode())
        except BaseException:
            process.kill()
            raise
    return _rendered(reply, complaints, process.returncode)


def _command() -> list[str]:
    code = BOOTSTRAP.format(homes=_homes(), others=[path for path in STARTUP_PATH if path])
    return [sys.executable, "-X", f"utf8={sys.flags.utf8_mode}", "-I", "-c", code]


def _homes() -> list[str]:
    """The folders that hold our packages; a checkout keeps them in three."""
    import precscope_reports

    packages = (precscope, precscope_cli, precscope_reports)
    return [str(Path(str(package.__file__)).resolve().parent.parent) for package in packages]


def _rendered(reply: bytes, complaints: bytes, code: int) -> Rendered:
    told = complaints.decode(errors="replace").strip()
    if code != 0 or not reply:
        last = told.splitlines()[-1] if told else f"exit code {code}"
        raise PrecscopeError(f"rendering failed: {last}") from RuntimeError(told)
    answer = json.loads(reply)
    if "error" in answer:
        raise PrecscopeError(answer["error"])
    return Rendered(**answer)
