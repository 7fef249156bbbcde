from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]

PARTS = {
    "top": "import torch",
    "model": "def model():\n    return torch.nn.Linear(3, 1)",
    "batches": "def batches():\n    for _ in range(4):\n        yield torch.randn(5, 3)",
    "loss": "def loss(model, batch):\n    return model(batch).square().mean()",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a working model file, with parts of it replaced, added, or left out (None)."""

    def write_file(name: str = "toy.py", **parts: str | None) -> Path:
        path = tmp_path / name
        chosen = {**PARTS, **parts}
        path.write_text("\n\n".join(part for part in chosen.values() if part is not None))
        return path

    return write_file
