"""A model file of a few hundred parameters, and a progress that keeps the names of the phases."""

from __future__ import annotations

from pathlib import Path

from precscope.workload import Workload, load_workload

MODEL = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1),
                         nn.Linear(16, 4))

def batches():
    while True:
        x = torch.randn(32, 8)
        yield x, x[:, :4].argmax(1)

def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def optimizer(model):
    return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

def evaluate(model):
    x = torch.randn(256, 8)
    return {"accuracy": float((model(x).argmax(1) == x[:, :4].argmax(1)).float().mean())}
"""


def small_workload(folder: Path, text: str = MODEL) -> Workload:
    """The workload of a model file written into ``folder``."""
    path = folder / "small.py"
    path.write_text(text)
    return load_workload(path)


class Phases:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def phase(self, name: str, total: int | None) -> None:
        self.names.append(name)

    def advance(self, done: int, note: str = "") -> None:
        pass
