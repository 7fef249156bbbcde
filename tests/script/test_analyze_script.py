"""``precscope analyze train.py -- ARGS`` as a command: files, exit codes, streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from precscope.advice.script_findings import script_findings
from precscope.script.target import is_script
from precscope_cli.main import cli

ROOT = Path(__file__).parents[2]
SCRIPT = """
    import argparse, os, sys, tempfile, torch
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int)
    parser.add_argument("--code", type=int)
    given = parser.parse_args()
    print("stdin", repr(sys.stdin.read()))
    os.chdir(tempfile.mkdtemp())
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(given.steps):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        print("loss", loss.item())
    sys.exit(given.code)
"""
HOSTILE = ("random", "json", "logging", "cli", "reports", "rich", "precscope_cli")
"""Names of files beside the script: some that torch imports, some that only precscope does."""


def analyze(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "cli", "reports"))
    code = "import sys; del sys.path[0]; from precscope_cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "analyze", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_script_is_observed_among_hostile_files(folder: Any) -> None:
    folder.write("train.py", SCRIPT)
    for name in HOSTILE:
        folder.write(f"{name}.py", "raise SystemExit('shadowed')")
    ran = analyze(
        "train.py", "--steps", "5", "--no-train", "--json", "-", "-q", "-o", "out",
        "--", "--steps", "99", "--code", "3", stdin="of the pipe",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert ran.stderr.splitlines()[0] == "stdin 'of the pipe'"
    assert ran.stderr.count("loss ") == result["coverage"]["observed_steps"] == 5
    assert {path.name for path in (folder.path / "out").iterdir()} >= {
        "report.html",
        "run.precscope",
    }


def test_a_failing_script_keeps_its_exit_code_and_its_report(folder: Any) -> None:
    folder.write("train.py", SCRIPT)
    with folder.starting():
        ran = CliRunner().invoke(
            cli, ["analyze", "train.py", "--steps", "9", "-q", "-o", "out",
                  "--", "--steps", "3", "--code", "7"],
        )  # fmt: skip
    assert (ran.exit_code, ran.output) == (7, "")
    result = json.loads((folder.path / "out/result.json").read_text())
    assert result["coverage"]["observed_steps"] == 3
    assert result["runs"] == []


DATA_PARALLEL = """
    import sys, torch
    from torch import distributed
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    model = torch.nn.parallel.DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batches = torch.Generator().manual_seed(rank)
    for i in range(20):
        optimizer.zero_grad()
        model(torch.randn(2, 4, generator=batches)).square().mean().backward()
        optimizer.step()
"""


@pytest.mark.distributed
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_ranks_of_torchrun_record_each_and_rank_0_reports(folder: Any) -> None:
    folder.write("train.py", DATA_PARALLEL)
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "cli", "reports"))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    given = ["-m", "precscope", "analyze", "train.py", "--steps", "5", "--json", "-", "-o", "out"]
    ran = subprocess.run(
        [sys.executable, *torchrun, *given],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["coverage"]["observed_steps"] == 5
    (site,) = [s for s in result["sites"] if (s["name"], s["kind"]) == ("0", "activation")]
    assert sum(site["histogram"]["counts"]) + site["histogram"]["zeros"] == 2 * 5 * (2 * 8)
    names = {path.name for path in (folder.path / "out").iterdir()}
    assert {"run.rank0.precscope", "run.rank1.precscope", "report.html"} <= names
    assert result["runs"] == []
    assert "not run again: torchrun" in ran.stderr
    assert ran.stderr.count("precscope: observe train") == 1


def test_ranks_that_torchrun_did_not_start_are_refused(
    folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("train.py", "import torch")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = CliRunner().invoke(cli, ["analyze", "train.py"])
    assert (ran.exit_code, "start the ranks with torchrun" in ran.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("import torch", True),
        ("def model(): ...", True),
        ("def model(): ...\ndef batches(): ...", False),
        ("def model(): ...\ndef batches(): ...\ndef loss(m, b): ...", False),
    ],
)
def test_a_model_file_that_lacks_one_name_is_no_script(
    tmp_path: Path, text: str, script: bool
) -> None:
    (tmp_path / "file.py").write_text(text)
    assert is_script(tmp_path / "file.py") == script


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.py", "--device", "cpu"], "--device is for model files"),
        (["train.py", "--recipe", "tuned.json"], "--recipe is for model files"),
        (
            ["train.py", "--recipes", "papr"],
            "unknown recipe 'papr': choose one of fp32, tf32, bf16",
        ),
        (["model.py", "--keep-going"], "--keep-going is for scripts"),
        (["model.py", "--", "x"], "takes no arguments: x"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_work(
    folder: Any, arguments: list[str], said: str
) -> None:
    folder.write("train.py", "import torch")
    folder.write("model.py", "def model(): ...\ndef batches(): ...\ndef loss(m, b): ...")
    result = CliRunner().invoke(cli, ["analyze", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert sorted(path.name for path in folder.path.iterdir()) == ["model.py", "train.py"]


def test_a_script_that_is_mixed_already_and_one_that_fails_are_told() -> None:
    document = {
        "mixed": {"autocast": "float16", "grad_scaler": True},
        "failed": {"fp16": "boom"},
        "not_run": [{"recipes": ["paper"], "reason": "none"}],
    }
    rules = [finding.rule for finding in script_findings(document)]
    assert rules == ["script_is_mixed", "script_fails_with_recipe", "script_recipes_not_run"]
    assert script_findings(None) == []
    assert script_findings({"mixed": None}) == []
