"""From a trainer's wrappers to the model and the optimizer underneath."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from precscope.integrations.unwrapping import bare_model, bare_optimizer


def test_wrappers_are_taken_off() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert bare_model(nn.DataParallel(model)) is model
    assert bare_model(torch.compile(nn.DataParallel(model), backend="eager")) is model  # type: ignore[arg-type]
    assert bare_optimizer(SimpleNamespace(optimizer=optimizer)) is optimizer
    assert bare_optimizer(optimizer) is optimizer
