"""A flush copies each block to the host once; what is read after that are host arrays."""

from __future__ import annotations

import torch
from torch import nn

from precscope.monitor import Monitor
from tests.support.host_reads import counted_host_reads
from tests.support.memory_sink import MemorySink

STATISTICS = ("activation", "activation_gradient", "weight", "weight_gradient")


def test_a_flush_reads_no_number_from_a_tensor() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True))
    optimizer, sink = torch.optim.SGD(model.parameters(), 0.1), MemorySink()
    with Monitor(model, optimizer, sink, kinds=STATISTICS) as monitor:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 4)).sum().backward()
            optimizer.step()
        with counted_host_reads() as found:
            monitor.flush()
            reads = dict(found)
    assert set(reads) == {"Tensor.numpy"}
    assert len(sink.steps) == 3
    assert sink.steps[0].gradient_amax > 0.0


def test_sites_of_several_blocks_keep_their_own_counts() -> None:
    layers = [nn.Linear(3, 3, bias=False) for _ in range(150)]
    model, sink = nn.Sequential(*layers), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with Monitor(model, optimizer, sink, kinds=STATISTICS), torch.random.fork_rng():
        for _ in range(2):
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    for i, layer in enumerate(layers):
        weight = layer.weight.detach()
        found = sink.histogram(f"{i}.weight", "weight")
        assert found.amax == float(weight.abs().max())
        assert found.total == 18
        assert sink.histogram(f"{i}", "activation").total == 12
    assert sink.histogram("149", "activation_gradient").amax == 1.0
