"""A script under observation does what a plain run does: output, exit code, traceback."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from precscope.script import Script

FIDELITY = """
    import argparse, os, sys, torch
    from torch.utils.data import DataLoader, Dataset
    import helper

    class Rows(Dataset):
        def __len__(self):
            return 24
        def __getitem__(self, i):
            return torch.randn(4, generator=torch.Generator().manual_seed(i)), i % 3

    def main():
        parser = argparse.ArgumentParser()
        parser.add_argument("--width", type=int)
        width = parser.parse_args().width
        print(__name__, __file__, __package__, __spec__, sys.argv, sys.path[0], os.getcwd())
        print(sys.modules["__main__"] is sys.modules[Rows.__module__], helper.NAME)
        print(open("rate.txt").read(), repr(sys.stdin.read()))
        torch.manual_seed(1)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.ReLU(inplace=True), torch.nn.Linear(width, 3)
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=float(open("rate.txt").read()))
        loader = DataLoader(Rows(), 4, num_workers=1, multiprocessing_context="spawn")
        for i, (x, y) in enumerate(loader):
            loss = torch.nn.functional.cross_entropy(model(x), y) / 2
            loss.backward()
            print(i, loss.item().hex(), torch.rand(1).item())
            if i % 2:  # gradient accumulation
                optimizer.step()
                optimizer.zero_grad()
        print(sum(p.double().sum().item() for p in model.parameters()).hex())
        sys.exit(3)

    if __name__ == "__main__":
        main()
"""


def of_the_script(stderr: str) -> str:
    """What is left without Python's own chatter: its resource tracker now and then complains of
    the semaphores that a spawned DataLoader worker took with it, with and without us."""
    kept = [
        line
        for line in stderr.splitlines()
        if "resource_tracker" not in line and "warnings.warn(" not in line
    ]
    return "\n".join(kept).strip()


def test_output_losses_and_exit_code_are_those_of_a_plain_run(folder: Any) -> None:
    (folder.path / "code").mkdir()
    folder.write("code/train.py", FIDELITY)
    folder.write("code/helper.py", 'NAME = "of the script\'s folder"')
    folder.write("rate.txt", "0.01")
    plain = folder.plain("code/train.py", "--width", "8")
    ended, printed = folder.run(Script("code/train.py", ("--width", "8")), fresh=True)
    assert plain.returncode == 3, plain.stderr
    assert printed == plain.stdout
    assert (ended.exit_code, len(ended.of("step"))) == (3, 3)
    assert (of_the_script(ended.complaints), of_the_script(plain.stderr)) == ("", "")
    recording = folder.recording
    assert [step.step for step in recording.steps] == [0, 1, 2]
    names = {site.name for site in recording.sites}
    assert {"0", "2", "0.weight", "2.bias"} <= names


RAISING = """
    import torch

    def train():
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for i in range(9):
            loss = model(torch.ones(2, 4)).mean()
            loss.backward()
            optimizer.step()
            if i == 4:
                try:
                    torch.ones(2, 2).backward()
                except RuntimeError as error:
                    raise ValueError("a bad batch") from error

    train()
"""


def without_runpy(traceback: str) -> list[str]:
    """Python 3.10 shows lines of its source, later ones have it frozen and show none."""
    lines: list[str] = []
    inside = False
    for line in traceback.splitlines():
        inside = "runpy" in line or (inside and line.startswith("    "))
        lines += [] if inside else [line]
    return lines


def test_a_module_that_raises_shows_its_own_traceback_and_keeps_the_recording(folder: Any) -> None:
    (folder.path / "pkg").mkdir()
    folder.write("pkg/__init__.py", "")
    folder.write("pkg/train.py", RAISING)
    plain = folder.plain("-m", "pkg.train")
    ended, _ = folder.run(Script("pkg.train", is_module=True))
    assert (ended.exit_code, plain.returncode) == (1, 1)
    assert ended.complaints.splitlines() == without_runpy(plain.stderr)
    assert len(folder.recording.steps) == 5
    assert folder.recording.document("coverage")["observed_steps"] == 5


STOPPED = """
    import atexit, itertools, torch
    atexit.register(print, "exit handler")
    model = torch.compile(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    try:
        for i in itertools.count():
            try:
                optimizer.zero_grad()
                model(torch.ones(2, 4)).mean().backward()
                optimizer.step()
                schedule.step()
                print(i)
            except Exception as error:
                print("swallowed", error)
    finally:
        print("finally")
"""


def test_an_endless_script_is_stopped_after_its_steps(folder: Any) -> None:
    folder.write("train.py", STOPPED)
    ended, printed = folder.run(Script("train.py"), steps=4)
    assert printed.split("\n") == ["0", "1", "2", "3", "finally", "exit handler", ""]
    assert (ended.exit_code, ended.complaints) == (0, "")
    assert {"(root)", "weight"} <= {site.name for site in folder.recording.sites}
    assert len(folder.recording.steps) == 4


ENDLESS = """
    import time, torch
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while True:
        model(torch.ones(2, 4)).mean().backward()
        optimizer.step()
        time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_script_and_leaves_a_recording(folder: Any, number: int) -> None:
    folder.write("train.py", "import os; print(os.getpid(), flush=True)\n")
    body = (folder.path / "train.py").read_text()
    (folder.path / "train.py").write_text(body + _dedented(ENDLESS))

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 70:
            os.kill(int((folder.path / "printed").read_text()), number)

    ended, _ = folder.run(Script("train.py"), on_event, steps=100000, every=1)
    assert ended.exit_code == 128 + number
    assert ("KeyboardInterrupt" in ended.complaints) == (number == signal.SIGINT)
    assert len(folder.recording.sites) >= 3
    assert len(folder.recording.steps) >= 64


def _dedented(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


SHADOWING = "sqlite3 cli reports llvmlite numba click rich plotly precscope_cli script monitor"


def test_files_that_shadow_what_only_we_import_do_no_harm(folder: Any) -> None:
    for name in SHADOWING.split():
        folder.write(f"{name}.py", f'NAME = "the script\'s {name}"')
    folder.write(
        "train.py",
        f"import {', '.join(SHADOWING.split())}, torch\n"
        f"print([m.NAME for m in ({', '.join(SHADOWING.split())})])\n"
        "model = torch.nn.Linear(4, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for i in range(3):\n"
        "    model(torch.ones(2, 4)).mean().backward()\n"
        "    optimizer.step()\n",
    )
    ended, printed = folder.run(Script("train.py"), fresh=True)
    assert ended.exit_code == 0, ended.complaints
    assert printed == f"{[f'the script{chr(39)}s {name}' for name in SHADOWING.split()]}\n"
    assert len(folder.recording.steps) == 3
    assert folder.recording.document("coverage")["observer_errors"] == []
