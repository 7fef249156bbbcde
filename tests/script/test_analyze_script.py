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
    import sys, torch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(int(sys.argv[1])):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        print("loss", loss.item())
    sys.exit(int(sys.argv[2]))
"""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "cli", "reports"))
    code = "import sys; del sys.path[0]; from precscope_cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "analyze", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
def test_a_script_is_observed_advised_and_run_again(folder: Any) -> None:
    folder.write("train.py", SCRIPT)
    ran = analyze(
        "train.py", "--steps", "5", "--recipes", "advised", "--json", "-", "-q", "-o", "out",
        "--", "99", "--not-ours",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert ran.stderr.count("loss ") == 5
    assert result["coverage"]["observed_steps"] == 5
    assert {site["autocast_dtype"] for site in result["sites"]} >= {"float16"}
    assert [run["recipe"] for run in result["runs"]] == ["fp32", "advised"]
    assert len(result["runs"][1]["losses"]) == 5
    observed = [float(line.split()[1]) for line in ran.stderr.splitlines() if "loss " in line]
    assert result["runs"][0]["losses"] == observed
    assert {path.name for path in (folder.path / "out").iterdir()} >= {
        "report.html",
        "run.precscope",
    }


def test_a_failing_script_keeps_its_exit_code_and_its_report(folder: Any) -> None:
    folder.write("train.py", SCRIPT)
    ran = analyze("train.py", "--steps", "9", "-q", "-o", "out", "--", "3", "7")
    assert (ran.returncode, ran.stderr) == (7, "")
    assert ran.stdout.count("loss ") == 3
    result = json.loads((folder.path / "out/result.json").read_text())
    assert result["coverage"]["observed_steps"] == 3
    assert result["runs"] == []


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
        (["train.py", "--seeds", "3"], "--seeds is for model files"),
        (["train.py", "--recipes", "paper"], "recipe 'paper' needs FP16 weights"),
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
    document = {"mixed": {"autocast": "float16", "grad_scaler": True}, "failed": {"fp16": "boom"}}
    rules = [finding.rule for finding in script_findings(document)]
    assert rules == ["script_is_mixed", "script_fails_with_recipe"]
    assert script_findings(None) == []
    assert script_findings({"mixed": None}) == []
