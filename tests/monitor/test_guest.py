"""Observed training is bit-identical to unobserved training, and nothing is left behind."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink


class InPlaceResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.conv(x)))
        y = self.second(x)
        y += x
        y = self.drop(self.act(y))
        return self.head(y.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, (h, _) = self.lstm(x)
        return self.head(y[:, -1] + h[-1])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 8)
        self.attend = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, 16, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.embed(x)
        y = y + self.attend(y, y, y)[0]
        return self.out(y).mean(1)[:, :4]


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(8, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(self.block, self.first(x), use_reentrant=self.reentrant)
        return self.head(y)


def image() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8)


def sequence() -> torch.Tensor:
    return torch.randn(4, 5, 8)


def tokens() -> torch.Tensor:
    return torch.randint(0, 16, (4, 5))


def row() -> torch.Tensor:
    return torch.randn(4, 8)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "in-place residual": (InPlaceResidual, image),
    "recurrent": (Recurrent, sequence),
    "tied weights and attention": (Tied, tokens),
    "checkpoint": (lambda: Checkpointed(False), row),
    "reentrant checkpoint": (lambda: Checkpointed(True), row),
}


def train(
    build: Callable[[], nn.Module], batch: Callable[[], torch.Tensor], every: int | None
) -> tuple[list[torch.Tensor], nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    monitor = None
    if every is not None:
        monitor = Monitor(model, optimizer, NullSink(), schedule=lambda step: step % every == 0)
    losses = []
    for _ in range(4):
        x = batch()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), torch.arange(4))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
        assert monitor.coverage()["sites"] > 8
    return losses, model, torch.get_rng_state()


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_losses_weights_and_random_stream_are_bit_identical(case: str, every: int) -> None:
    build, batch = CASES[case]
    plain_losses, plain, plain_stream = train(build, batch, None)
    losses, model, stream = train(build, batch, every)
    assert all(torch.equal(a, b) for a, b in zip(plain_losses, losses, strict=True))
    assert torch.equal(plain_stream, stream)
    expected, found = plain.state_dict(), model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[k], found[k]) for k in expected)


def hooks_of(model: nn.Module) -> int:
    modules = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return modules + sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


def test_close_leaves_no_hook() -> None:
    model = InPlaceResidual()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = Monitor(model, optimizer, NullSink())
    assert hooks_of(model) > 0
    monitor.close()
    monitor.close()
    assert hooks_of(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_state_dict_and_buffers_of_a_watched_model_are_its_own() -> None:
    model = InPlaceResidual()
    names, buffers = list(model.state_dict()), [n for n, _ in model.named_buffers()]
    with Monitor(model, None, NullSink()):
        model(image()).sum().backward()
        assert list(model.state_dict()) == names
        assert [n for n, _ in model.named_buffers()] == buffers


def test_a_model_pickles_and_copies_after_watching() -> None:
    model = Recurrent()
    with Monitor(model, None, NullSink()):
        model(sequence()).sum().backward()
    copied = pickle.loads(pickle.dumps(model))
    x = sequence()
    assert torch.equal(model(x), copied(x))
    assert torch.equal(model(x), copy.deepcopy(model)(x))


def test_evaluation_passes_are_not_observed() -> None:
    model = InPlaceResidual()
    sink = NullSink()
    with Monitor(model, None, sink):
        model.eval()
        with torch.no_grad():
            model(image())
    assert not sink.sites
