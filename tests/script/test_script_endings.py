"""However a script ends, what it had done is in the Recording and its exit code comes out."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from precscope.script import Script
from precscope_cli.main import cli

TRAINING = """
    import os, sys, torch
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(9):
        model(torch.ones(2, 4)).mean().backward()
        optimizer.step()
        if i == 2:
"""


@pytest.mark.parametrize(
    ("end", "code", "complaint"),
    [
        ("torch.empty(2**50)", 1, "RuntimeError"),
        ("os._exit(5)", 5, ""),
        ("sys.exit('no data')", 1, "no data"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("os.abort()", 134, ""),
    ],
)
def test_three_steps_and_an_end(folder: Any, end: str, code: int, complaint: str) -> None:
    folder.write("train.py", f"{TRAINING}            {end}\n")
    ended, _ = folder.run(Script("train.py"), steps=9)
    assert ended.exit_code == code
    assert complaint in ended.complaints
    assert "precscope" not in ended.complaints
    assert len(ended.of("step")) == 3
    if end == "os.abort()":  # the operating system ends it: what was flushed is there
        assert folder.recording.sites
    else:
        assert [step.step for step in folder.recording.steps] == [0, 1, 2]
        assert folder.recording.document("coverage")["observed_steps"] == 3


LOST = """
    import torch
    model = torch.nn.Linear(4, 1)
    for i in range(3):
        loss = model(torch.ones(2, 4)).square().mean()
        with torch.no_grad():
            for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
                p -= 0.1 * g
"""

NO_MODULE = """
    import torch
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for i in range(3):
        weight.square().sum().backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOST, "took no step of a torch optimizer"),
        (NO_MODULE, "took no step of a torch optimizer on a model that it called"),
        ("import torch\n", "took no step of a torch optimizer"),
        ("import torch\nfor i in range(3)\n    pass\n", "train.py:2: syntax error"),
    ],
)
def test_what_cannot_be_analyzed_is_said_in_one_line(folder: Any, text: str, said: str) -> None:
    folder.write("train.py", text)
    with folder.starting():
        result = CliRunner().invoke(cli, ["analyze", "train.py", "-o", "out"])
    assert result.exit_code == 1
    assert said in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert [path.name for path in folder.path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_script_is_left_to_run_on_if_asked(folder: Any, keep_going: bool) -> None:
    folder.write("train.py", f"{TRAINING}            print('two')\n    print('end')\n")
    ended, printed = folder.run(Script("train.py"), steps=4, keep_going=keep_going)
    assert (ended.exit_code, printed) == (0, "two\nend\n" if keep_going else "two\n")
    assert len(ended.of("done")) == 1
    assert [step.step for step in folder.recording.steps] == [0, 1, 2, 3]


BLIND = """
    import torch
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 1)
        def named_modules(self, *args, **kwargs):
            raise ValueError("no names")
        def forward(self, x):
            return self.inner(x)
    model = Model()
    optimizer = torch.optim.SGD(model.inner.parameters(), lr=0.1)
    for i in range(3):
        model(torch.ones(2, 4)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    print("trained")
"""


def test_a_model_that_cannot_be_watched_trains_on(folder: Any) -> None:
    folder.write("train.py", BLIND)
    ended, printed = folder.run(Script("train.py"), steps=9)
    assert (ended.exit_code, printed, ended.complaints) == (0, "trained\n", "")
    (broken,) = ended.of("broken")
    assert broken == {"event": "broken", "where": "Model", "message": "ValueError: no names"}
    assert [event["kind"] for event in ended.of("model")] == ["Linear"]  # what is inside, then


def test_a_thread_that_calls_the_model_ends_without_a_word(folder: Any) -> None:
    thread = "threading.Thread(target=model, args=(torch.ones(2, 4),))"
    text = f"{TRAINING}            import threading\n        if i >= 2:\n"
    folder.write("train.py", f"{text}            t = {thread}; t.start(); t.join()\n")
    ended, _ = folder.run(Script("train.py"), steps=3)
    assert (ended.exit_code, ended.complaints) == (0, "")


def test_an_optimizer_that_gc_freeze_hides_is_found_once_it_steps(folder: Any) -> None:
    frozen = TRAINING.replace("    for i", "    import gc; gc.freeze()\n    for i")
    folder.write("train.py", f"{frozen}            pass\n")
    ended, _ = folder.run(Script("train.py"), steps=9)
    assert (ended.exit_code, ended.complaints) == (0, "")
    assert [event["kind"] for event in ended.of("model")] == ["Linear"]
    assert len(folder.recording.steps) == 8
