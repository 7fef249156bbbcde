"""Processes of scripts without the seconds that importing torch takes, by forking.

The server does what the bootstrap of ``precscope.script.process`` does up to its last line; each
job is the rest of the bootstrap in a fork, which ends as any Python program ends. What depends on
a fresh interpreter is tested with a fresh one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from precscope.script.process import BOOTSTRAP, _home

POPEN = subprocess.Popen

SERVER = """
import gc, json, os, socket, sys
sys.modules["triton"] = None  # its bindings complain about what the next line leaves behind
gc.unfreeze = int  # each fork would touch, and so copy, the whole warm heap once more at its end
from precscope.script.child import _warm_up
_warm_up(observes=True)
gc.freeze()
line = socket.socket(fileno={fd})
while True:
    request, fds, _, _ = socket.recv_fds(line, 65536, 3)
    if not request:
        os._exit(0)
    asked = json.loads(request)
    if "poll" in asked:
        pid, status = os.waitpid(asked["poll"], os.WNOHANG)
        line.send(json.dumps(os.waitstatus_to_exitcode(status) if pid else None).encode())
        continue
    pid = os.fork()
    if pid == 0:
        break
    line.send(json.dumps(pid).encode())
    for fd in fds:
        os.close(fd)
line.close()
for number, fd in enumerate(fds):
    os.dup2(fd, number)
    os.close(fd)
os.chdir(asked["folder"])
del request, line, number, fd, pid
main(asked["job"], loaded)
"""


class ForkServer:
    """Forks a warm interpreter for each job."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._line = ours
        head = BOOTSTRAP.format(home=_home(), job="").rpartition("main(")[0]
        code = head + SERVER.format(fd=theirs.fileno())
        self._process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])
        theirs.close()

    def start(
        self, command: list[str], stdin: Any = None, stdout: Any = None, stderr: Any = None
    ) -> Any:
        """In place of ``subprocess.Popen``, which still starts everything but scripts."""
        if "precscope.script.child" not in command[-1]:
            return POPEN(command, stdin=stdin, stdout=stdout, stderr=stderr)
        job = command[-1].rpartition("main('")[2].partition("', loaded)")[0]
        with open(os.devnull) as nothing, open(os.devnull, "w") as sink:  # noqa: PTH123
            out = sink.fileno() if stdout == subprocess.DEVNULL else stdout
            # As pytest captures them, our own streams are no files.
            fds = [nothing.fileno(), out or sink.fileno(), stderr.fileno() if stderr else 2]
            request = json.dumps({"job": job, "folder": os.getcwd()})  # noqa: PTH109
            socket.send_fds(self._line, [request.encode()], fds)
            return Forked(self, self.reply())

    def ask(self, pid: int) -> int | None:
        """The exit code of a fork, None while it runs."""
        self._line.send(json.dumps({"poll": pid}).encode())
        answer: int | None = self.reply()
        return answer

    def reply(self) -> Any:
        """The next answer of the server."""
        return json.loads(self._line.recv(4096))

    def close(self) -> None:
        """End the server."""
        self._line.close()
        self._process.wait(20)


class Forked:
    """What ``run_script`` needs of a process."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, as ``Popen.wait`` does."""
        until = time.monotonic() + (timeout if timeout is not None else 100.0)
        while self.returncode is None:
            self.returncode = self._server.ask(self.pid)
            if self.returncode is None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("fork", timeout or 100.0)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
