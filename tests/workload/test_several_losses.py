from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from precscope import build_result
from precscope.advice import advise
from precscope.analysis import AnalysisOptions, analyze
from precscope.analysis.observe import PROBE_LIMITS
from precscope.analysis.plain_steps import plain_step
from precscope.errors import UsageError, WorkloadError
from precscope.monitor import Monitor
from precscope.probes.shadow_backward import measure_gradient_errors
from precscope.training import MixedPrecision, train
from precscope.workload import (
    SteppingSession,
    check_batches_repeat,
    check_first_loss,
    is_model_file,
    load_workload,
    missing_names,
)
from tests.support.memory_sink import MemorySink
from tests.support.small_workload import Phases

Write = Callable[..., Path]

MODEL = """
def model():
    return torch.nn.ModuleDict({
        "a": torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(),
                                 torch.nn.Dropout(0.1), torch.nn.Linear(8, 3)),
        "b": torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)),
    })
"""
OPTIMIZER = """
def optimizer(model):
    return {name: torch.optim.SGD(part.parameters(), lr=0.05) for name, part in model.items()}
"""
STEP = """
def step(model, batch, trainer):
    with trainer.autocast():
        first = model["b"](model["a"](batch).detach()).square().mean()
    trainer.step(first, optimizer="b")
    with trainer.autocast():
        second = (model["b"](model["a"](batch)) - 1).square().mean()
    trainer.step(second, optimizer="a")
    return {"b": first, "a": second.detach()}
"""


def several(write: Write, **parts: str | None) -> Path:
    chosen = {"model": MODEL, "loss": None, "step": STEP, "optimizer": OPTIMIZER, **parts}
    return write(**chosen)


def session_of(path: Path, seed: int = 0) -> SteppingSession:
    session = load_workload(path).session(seed)
    assert isinstance(session, SteppingSession)
    return session


def grads(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def test_a_file_with_a_step_in_place_of_a_loss_is_a_model_file(write: Write) -> None:
    path = several(write)
    assert is_model_file(path)
    workload = load_workload(path)
    assert workload.loss is None
    assert workload.step is not None
    session = session_of(path)
    assert set(session.optimizers) == {"a", "b"}
    assert check_first_loss(session) > 0
    check_batches_repeat(session)


def test_the_joint_loss_gives_each_parameter_the_gradient_of_its_own_loss(write: Write) -> None:
    session = session_of(several(write))
    batch = next(session.batches())
    state = torch.get_rng_state()
    (session.loss(batch) * 4).backward()
    joint = grads(session.model)
    session.model.zero_grad()
    torch.set_rng_state(state)
    a, b = session.model["a"], session.model["b"]  # type: ignore[index]
    b(a(batch).detach()).square().mean().backward()
    wanted = {f"b.{name}": 4 * grad for name, grad in grads(b).items()}
    session.model.zero_grad()
    (b(a(batch)) - 1).square().mean().backward()
    wanted |= {f"a.{name}": 4 * grad for name, grad in grads(a).items()}
    assert joint.keys() == wanted.keys()
    for name, grad in joint.items():
        assert torch.equal(grad, wanted[name]), name


def test_a_probe_leaves_no_trace_in_the_session(write: Write) -> None:
    session = session_of(several(write))
    batch = next(session.batches())
    before = [value.clone() for value in session.model.state_dict().values()]
    found = measure_gradient_errors(session.model, session.loss, [batch], (0, 8), "cpu")
    errors: Any = found.to_dict()["errors"]
    assert set(errors["8"]) == {n for n, _ in session.model.named_parameters()}
    # Before a BatchNorm the gradient of a bias is zero, but for rounding.
    usable = [error for name, error in errors["8"].items() if name != "a.0.bias"]
    assert all(error is not None and error < 0.05 for error in usable)
    after = session.model.state_dict().values()
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(p.grad is None for p in session.model.parameters())


def test_autocast_of_a_probe_covers_what_the_step_puts_under_it(write: Write) -> None:
    step = """
seen = []
def step(model, batch, trainer):
    seen.append(torch.mm(batch, batch.T).dtype)
    with trainer.autocast():
        seen.append(torch.mm(batch, batch.T).dtype)
        loss = model["b"](model["a"](batch)).square().mean()
    trainer.step(loss)
    return {"all": loss, "seen": torch.tensor(float(seen == [torch.float32, torch.float16]))}
"""
    session = session_of(several(write, step=step))
    batch = next(session.batches())
    with torch.autocast("cpu", dtype=torch.float16):
        assert session.loss(batch).item() > 0
    losses = session.step(batch, MixedPrecision(session.model, session.optimizers, "fp32"))
    assert losses["seen"].item() == 0.0, "the second call of it, so four dtypes were seen"


def test_a_call_of_step_is_one_step_whatever_moves_in_it(write: Write) -> None:
    step = """
def step(model, batch, trainer):
    for name in ("a", "a", "b") if batch.mean() > 0 else ("a",):
        loss = model["b"](model["a"](batch)).square().mean()
        trainer.step(loss, optimizer=name)
    return {"last": loss}
"""
    session = session_of(several(write, step=step))
    sink = MemorySink()
    with Monitor(session.model, session.optimizer, sink, window_steps=1) as monitor:
        take_step = plain_step(session, monitor.record_loss)
        batches = session.batches()
        losses = [float(take_step(next(batches))) for _ in range(6)]
    assert [record.step for record in sink.steps] == list(range(6))
    assert [record.loss for record in sink.steps] == pytest.approx(losses)
    steps = {window.parameter: window.steps for window in sink.updates}
    assert "a.0.weight" in steps
    assert "b.0.weight" in steps


def test_watching_changes_no_bit(write: Write) -> None:
    path = several(write)
    weights = []
    for watched in (False, True):
        session = session_of(path)
        monitor = Monitor(session.model, session.optimizer if watched else None, MemorySink())
        if not watched:
            monitor.close()
        take_step = plain_step(session)
        for batch, _ in zip(session.batches(), range(5), strict=False):
            take_step(batch)
        monitor.close()
        weights.append([v.clone() for v in session.model.state_dict().values()])
    assert all(torch.equal(x, y) for x, y in zip(*weights, strict=True))


def test_the_whole_analysis(write: Write, tmp_path: Path) -> None:
    workload = load_workload(several(write))
    options = AnalysisOptions(
        steps=8,
        device="cpu",
        recipes=("fp32", "advised", "fp16", "paper"),
        recipe_steps=12,
        seeds=2,
    )
    recording = analyze(workload, tmp_path / "run.precscope", options, "test", Phases())
    result = build_result(recording)
    assert result["coverage"]["observed_steps"] == 8
    assert result["coverage"]["observer_errors"] == []
    told = {item["what"] for item in result["coverage"]["tensors_skipped"]}
    assert told >= set(PROBE_LIMITS)
    assert result["loss_scale"]["probe_batches"] > 0
    assert len(result["accumulation"]["sites"]) > 4
    assert result["residual"]["points"]
    assert {p["name"] for p in result["master_weights"]["parameters"]} >= {"a.0.weight", "b.0.bias"}
    assert advise(recording).recipe.name == "advised"
    for run in result["runs"]:
        assert set(run["loss_parts"]) == {"a", "b"}
        assert run["diverged_at"] is None
    assert result["parity"]["seeds"] == [0, 1]


def test_the_same_seed_gives_the_same_training_in_every_recipe(write: Write) -> None:
    workload = load_workload(several(write))
    names = ("fp32", "fp32", "paper-no-scaling", "bf16")
    runs = [train(workload, recipe, 6, 3) for recipe in names]
    assert runs[0].losses == runs[1].losses
    for run in runs[2:]:
        assert run.losses == pytest.approx(runs[0].losses, rel=0.02)


def test_a_single_optimizer_and_the_default_one_need_no_name(write: Write) -> None:
    step = """
def step(model, batch, trainer):
    with trainer.autocast():
        loss = model["b"](model["a"](batch)).square().mean()
    trainer.step(loss)
    return {"loss": loss}
"""
    workload = load_workload(several(write, step=step, optimizer=None))
    assert workload.default_optimizer
    run = train(workload, "paper", 4, 0)
    assert run.loss_parts["loss"] == run.losses


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"step": STEP.replace('return {"b"', 'x = {"b"')}, "must return a dict of name: loss"),
        ({"step": STEP.replace('{"b": first, "a": second.detach()}', "{}")}, "not an empty dict"),
        ({"step": STEP.replace('{"b": first,', '{"b": 1.0,')}, "scalar tensors, 'b' is float"),
        ({"step": STEP.replace('{"b": first,', '{"b": batch,')}, r"of shape \(5, 3\)"),
        (
            {"step": STEP.replace('{"b": first,', '{"b": torch.tensor(1),')},
            "real floating point numbers, 'b' is int64",
        ),
        (
            {"step": STEP.replace("trainer.step(", "dict(loss=")},
            "trained nothing: call trainer.step",
        ),
        (
            {"step": STEP.replace("trainer.step(first", "trainer.step(first * batch")},
            "a scalar, not shape",
        ),
        (
            {"step": STEP.replace("trainer.step(first", "trainer.step(first.detach()")},
            r"from step\(\) needs no gradient",
        ),
        ({"step": STEP.replace("first, opt", "1 / 0, opt")}, r"toy.py:\d+: step\(\) raised Zero"),
        ({"optimizer": "def optimizer(model):\n    return {}"}, "an empty dict"),
        (
            {"optimizer": OPTIMIZER.replace("{name:", "{0:")},
            "must name each with a string, not 0",
        ),
        (
            {"optimizer": OPTIMIZER.replace("part.parameters()", "model.parameters()")},
            "'a' and 'b' both hold a.0.weight",
        ),
        ({"loss": "def loss(model, batch):\n    return 0"}, "defines both loss and step"),
        (
            {"step": None, "loss": "def loss(model, batch):\n    return batch.sum()"},
            "returned several: then define step",
        ),
    ],
)
def test_a_breach_of_the_contract_is_one_line(
    write: Write, parts: dict[str, str | None], words: str
) -> None:
    path = several(write, **parts)
    with pytest.raises(WorkloadError, match=words) as caught:
        check_first_loss(load_workload(path).session(0))
    assert "\n" not in str(caught.value)


def test_an_unknown_optimizer_is_told_in_one_line(write: Write) -> None:
    session = session_of(several(write, step=STEP.replace('optimizer="b"', 'optimizer="c"')))
    with pytest.raises(UsageError, match="no optimizer is named 'c': choose one of a, b"):
        session.loss(next(session.batches()))


def test_a_helper_named_step_beside_loss_is_left_alone(write: Write) -> None:
    path = write(step="def step(model):\n    return 0")
    assert load_workload(path).step is None
    assert check_first_loss(load_workload(path).session(0)) >= 0


def test_neither_loss_nor_step_is_no_model_file(write: Write) -> None:
    assert missing_names(write(loss=None)) == ["loss"]
    with pytest.raises(WorkloadError, match=r"step\(model, batch, trainer\) in place of loss"):
        load_workload(write(loss=None))
