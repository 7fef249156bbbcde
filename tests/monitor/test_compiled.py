"""Watched before it is compiled, a model makes the same graphs, and what runs inside is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from precscope.monitor import Monitor, Schedule, compiled, modules
from tests.support.memory_sink import MemorySink

works = pytest.mark.skipif(not compiled.WORKS, reason="NOT RUN: this torch has no such effects")


def build() -> nn.Module:
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), hidden, nn.Linear(8, 2))


def train(
    sink: MemorySink | None, backend: str | None, every: int = 1
) -> tuple[int, int, list[float]]:
    torch._dynamo.reset()
    counters.clear()
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = None
    if sink is not None:
        monitor = Monitor(model, optimizer, sink, schedule=Schedule(every))
    counter = CompileCounterWithBackend(backend or "eager")
    run = torch.compile(model, backend=counter, fullgraph=True) if backend else model
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = run(torch.randn(3, 4)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return counter.frame_count, sum(counters["graph_break"].values()), losses


def counts(sink: MemorySink) -> dict[tuple[str, str], list[int]]:
    return {(s.name, s.kind): sink.histogram(s.name, s.kind).counts.tolist() for s in sink.sites}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore:Skipping serialization of:UserWarning"
)  # torch 2.6, Python 3.10
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiling_a_watched_model_adds_no_graph_and_no_break(backend: str) -> None:
    sink = MemorySink()
    assert train(sink, backend) == train(None, backend)
    assert train(None, backend)[:2] == (1, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@works
@pytest.mark.parametrize("every", [1, 2])
def test_what_runs_compiled_is_counted_as_what_runs_eagerly(every: int) -> None:
    inside, eager = MemorySink(), MemorySink()
    train(inside, "aot_eager", every)
    train(eager, None, every)
    assert counts(inside) == counts(eager)
    assert {s.kind for s in inside.sites} == {
        "activation", "activation_gradient", "weight", "weight_gradient"
    }  # fmt: skip
    assert [s.step for s in inside.steps] == list(range(0, 4, every))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_that_outlives_the_monitor_runs_without_effect() -> None:
    torch._dynamo.reset()
    model = build()
    sink = MemorySink()
    run = torch.compile(model, backend="aot_eager")
    with Monitor(model, None, sink):
        run(torch.ones(1, 4)).sum().backward()
    sites = len(sink.sites)
    run(torch.ones(1, 4)).sum().backward()
    assert len(sink.sites) == sites
    assert not model._forward_hooks


@works
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_that_was_compiled_before_is_told_loudly() -> None:
    torch._dynamo.reset()
    counters.clear()
    model = build()
    run = torch.compile(model, backend="aot_eager")
    run(torch.ones(1, 4)).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, MemorySink()) as monitor:
        run(torch.ones(1, 4)).sum().backward()
        with pytest.warns(UserWarning, match="compiled before watching"):
            optimizer.step()
    reasons = {m["reason"] for m in monitor.coverage()["modules_not_seen"]}
    assert all("compiled before watching" in reason for reason in reasons)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torch_that_lets_no_compiled_code_be_observed_is_told_loudly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "WORKS", False)
    torch._dynamo.reset()
    counters.clear()
    model, sink = build(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, sink) as monitor:
        torch.compile(model, backend="aot_eager")(torch.ones(1, 4)).sum().backward()
        with pytest.warns(UserWarning, match=r"which torch before 2\.13 does not let be observed"):
            optimizer.step()
    coverage = monitor.coverage()
    assert {m["name"] for m in coverage["modules_not_seen"]} == {
        name or "(root)" for name, _ in model.named_modules()
    }
    assert {m["reason"] for m in coverage["modules_not_seen"]} == {
        "runs compiled, which torch before 2.13 does not let be observed"
    }
    assert {site.kind for site in sink.sites} == {"weight", "weight_gradient"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_part_that_runs_compiled_is_not_said_to_be_idle_on_such_a_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "WORKS", False)
    torch._dynamo.reset()
    model = build()
    part = torch.compile(model[0], backend="aot_eager")  # type: ignore[index]
    with Monitor(model, None, MemorySink()) as monitor:
        model[3](model[2](part(torch.ones(1, 4)))).sum().backward()  # type: ignore[index]
    reasons = {m["name"]: m["reason"] for m in monitor.coverage()["modules_not_seen"]}
    assert "3" not in reasons
    assert "or runs compiled, which torch before 2.13" in reasons["0"]


class Attending(nn.Module):
    """A root of the user's own, whose hooks run outside of its compiled forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.GELU())
        self.out = nn.Linear(4, 7)
        self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.embed(x)
        y = y + self.attend(y, y, y, need_weights=False)[0]
        y = y + checkpoint(self.mlp, y, use_reentrant=False)
        return {"logits": self.out(y) * 2}


def train_attending(sink: MemorySink | None, backend: str | None) -> tuple[int, list[float]]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Attending()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    monitor = Monitor(model, optimizer, sink) if sink is not None else None
    counter = CompileCounterWithBackend(backend or "eager")
    run = torch.compile(model, backend=counter, fullgraph=True) if backend else model
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(torch.randint(0, 7, (2, 3)))["logits"].float().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return counter.frame_count, losses


@works
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_checkpoints_tied_weights_and_autocast_compile_to_one_graph_with_exact_counts() -> None:
    inside, eager = MemorySink(), MemorySink()
    assert train_attending(inside, "aot_eager") == train_attending(None, "aot_eager")
    train_attending(eager, None)
    found = {(s.name, s.kind): inside.histogram(s.name, s.kind).total for s in inside.sites}
    expected = {(s.name, s.kind): eager.histogram(s.name, s.kind).total for s in eager.sites}
    assert found == expected


@works
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inductor_splits_its_graphs_at_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.ir import FallbackKernel
    from torch._inductor.scheduler import Scheduler
    from torch._inductor.utils import fresh_cache

    reasons: list[str] = []
    original = Scheduler.__init__

    def scheduled(self: Scheduler, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        kernels = [node for node in self.nodes if isinstance(node.node, FallbackKernel)]
        reasons.extend(str(self.should_partition(kernel)) for kernel in kernels)

    monkeypatch.setattr(Scheduler, "__init__", scheduled)
    with fresh_cache():
        train(MemorySink(), "inductor")
    assert len(reasons) >= 4
    assert all(compiled.OPERATOR in reason for reason in reasons)


def test_the_operator_is_tagged_where_torch_has_the_tag() -> None:
    tags = torch.ops.precscope_v1.watch.default.tags
    unsafe = getattr(torch._C.Tag, "cudagraph_unsafe", None)
    assert unsafe is None or unsafe in tags


@works
def test_what_is_captured_in_a_cuda_graph_is_not_counted_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    compiled_model = torch.compile(model, backend="aot_eager")
    sink = MemorySink()
    with Monitor(model, None, sink, kinds=("activation",)) as monitor:
        compiled_model(torch.randn(3, 4))
        with monkeypatch.context() as patch:
            patch.setattr(modules, "is_capturing", lambda: True)
            compiled_model(torch.randn(3, 4))
        told = monitor.coverage()
    assert told["tensors_skipped"] == [{"what": "0", "reason": modules.CAPTURED, "count": 1}]
    assert sum(window.observations for _, window in sink.windows) == 1
