"""Encoder layers in evaluation: the fused path is open as if nobody watched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from precscope.monitor import Monitor
from tests.support.memory_sink import MemorySink


def layer() -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


ROOTS: dict[str, Callable[[], nn.Module]] = {
    "layer": layer,
    "encoder": lambda: nn.TransformerEncoder(layer(), 2),
    "part of a model": lambda: nn.Sequential(nn.Linear(8, 8), layer(), nn.Linear(8, 8)),
    "attention": lambda: Attention(),
}


LAST_SITES = {
    "layer": "norm2",
    "encoder": "layers.1.norm2",
    "part of a model": "1.norm2",
    "attention": "(root)",
}


class Attention(nn.MultiheadAttention):
    def __init__(self) -> None:
        super().__init__(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0]


def batch() -> torch.Tensor:
    return torch.randn(2, 5, 8)


def train_and_evaluate(root: str, watched: bool) -> tuple[list[torch.Tensor], MemorySink]:
    torch.manual_seed(4)
    model, sink = ROOTS[root](), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, sink) if watched else None
    seen = []
    for step in range(4):
        optimizer.zero_grad()
        loss = model.train()(batch()).square().mean()
        loss.backward()
        optimizer.step()
        with torch.no_grad() if step % 2 else torch.inference_mode():
            seen += [model.eval()(batch()), model(batch())]
        seen.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return [t.clone() for t in seen], sink


@pytest.mark.parametrize("root", ROOTS)
def test_numbers_of_evaluation_and_training_are_bit_identical(root: str) -> None:
    watched, sink = train_and_evaluate(root, True)
    plain, _ = train_and_evaluate(root, False)
    assert all(t.isfinite().all() for t in plain)
    assert all(torch.equal(a, b) for a, b in zip(watched, plain, strict=True))
    # Every training pass was observed though evaluation came between.
    name = LAST_SITES[root]
    assert sink.histogram(name, "activation").total == 4 * 2 * 5 * 8
    assert sink.histogram(name, "activation_gradient").total == 4 * 2 * 5 * 8
    assert [s.step for s in sink.steps] == [0, 1, 2, 3]


def takes_fused_path(model: nn.Module) -> bool:
    """The fused path calls none of the layer's parts: a hook there would close it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    # Without acc_events torch warns that it keeps the events of one cycle only.
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        model(batch())
    return "aten::_transformer_encoder_layer_fwd" in {event.key for event in profile.events()}


@pytest.mark.parametrize("root", ["layer", "encoder", "part of a model"])
def test_evaluation_of_a_watched_model_takes_the_fused_path(root: str) -> None:
    model = ROOTS[root]()
    with Monitor(model, None, MemorySink()), torch.no_grad():
        assert takes_fused_path(model.eval())
        assert not takes_fused_path(model.train())


def test_a_layer_that_is_called_alone_takes_it_too() -> None:
    model = ROOTS["part of a model"]().eval()
    with Monitor(model, None, MemorySink()), torch.no_grad():
        assert takes_fused_path(model[1])  # type: ignore[index]


def test_a_frozen_encoder_in_evaluation_takes_it_inside_of_training() -> None:
    def run(watched: bool) -> tuple[list[torch.Tensor], MemorySink]:
        torch.manual_seed(5)
        encoder = layer().requires_grad_(False).eval()
        model, sink = nn.Sequential(encoder, nn.Linear(8, 2)), MemorySink()
        optimizer = torch.optim.SGD(model[1].parameters(), 0.1)
        monitor = Monitor(model, optimizer, sink) if watched else None
        losses = []
        for _ in range(3):
            loss = model(batch()).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if monitor is not None:
            with monitor.paused():
                assert takes_fused_path(encoder)
            monitor.close()
        return losses, sink

    (watched, sink), (plain, _) = run(True), run(False)
    assert all(torch.equal(a, b) for a, b in zip(watched, plain, strict=True))
    assert sink.histogram("0", "activation").total == 3 * 2 * 5 * 8


def test_an_evaluation_that_raises_gives_the_hooks_back() -> None:
    model, sink = layer(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, sink):
        hooks = len(model.linear1._forward_hooks)
        with torch.no_grad(), pytest.raises(RuntimeError):
            model.eval()(torch.randn(2, 5, 7))
        assert len(model.linear1._forward_hooks) == hooks == 1
        model.train()(batch()).sum().backward()
        optimizer.step()
    assert sink.histogram("linear1", "activation").total == 2 * 5 * 16
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_interrupted_evaluation_leaves_nothing_after_close() -> None:
    model = layer()

    def interrupt(module: nn.Module, inputs: object) -> None:
        raise KeyboardInterrupt

    monitor = Monitor(model, None, MemorySink())
    handle = model.register_forward_pre_hook(interrupt)
    with torch.no_grad(), pytest.raises(KeyboardInterrupt):
        model.eval()(batch())
    handle.remove()
    monitor.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
