"""A workload with the protocol that `train` asks for, and small nets of every sort."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Build = Callable[[], nn.Module]
Optimizer = Callable[[Any], torch.optim.Optimizer]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 4)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.rnn: nn.Module = kind(2, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rnn(x.view(-1, 4, 2))[0]
        logits: torch.Tensor = self.head(out[:, -1])
        return logits


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 16)
        self.place = nn.Parameter(torch.zeros(8, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        words = ((x + 4) * 2).long().clamp(0, 15)
        hidden: torch.Tensor = self.block(self.table(words) + self.place)
        logits: torch.Tensor = self.head(hidden.mean(1))
        return logits


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


@dataclass
class FakeSession:
    """Four classes of eight-dimensional points."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    seed: int
    loss_factor: float = 1.0

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(11))
        while True:
            y = torch.randint(0, 4, (32,), generator=generator)
            yield centres[y] + 0.3 * torch.randn(32, 8, generator=generator), y

    def loss(self, batch: Any) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y) * self.loss_factor

    def evaluate(self) -> dict[str, float]:
        x, y = next(self.batches())
        self.model.eval()
        with torch.no_grad():
            return {"accuracy": float((self.model(x).argmax(-1) == y).float().mean())}


@dataclass
class FakeWorkload:
    build: Build = mlp
    make_optimizer: Optimizer = adamw
    loss_factor: float = 1.0

    def session(self, seed: int, device: str) -> FakeSession:
        torch.manual_seed(seed)
        model = self.build().to(device)
        return FakeSession(model, self.make_optimizer(model), seed, self.loss_factor)


NETS: dict[str, Build] = {
    "mlp": mlp,
    "cnn": cnn,
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
    "attention": Attention,
}


def make_workload(net: str | Build = "mlp", **options: Any) -> FakeWorkload:
    return FakeWorkload(NETS[net] if isinstance(net, str) else net, **options)
