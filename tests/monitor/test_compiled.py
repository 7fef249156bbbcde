"""A watched model compiles to the same graph; what runs inside it is not observed, and said."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink


def train(sink: NullSink | None) -> tuple[int, int, list[float]]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, sink) if sink is not None else None
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = compiled(torch.randn(3, 4)).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return counter.frame_count, counter.op_count, losses


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiling_a_watched_model_adds_no_graph_no_break_and_no_operator() -> None:
    sink = NullSink()
    assert train(sink) == train(None)
    assert {s.kind for s in sink.sites} == {"weight", "weight_gradient"}
