"""A borrowed model comes back as it was."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from precscope.probes.isolated import isolated


def model_after_a_step() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    model(torch.randn(6, 4)).sum().backward()
    return model


def test_gradients_buffers_and_random_streams_are_restored() -> None:
    model = model_after_a_step()
    gradients = [p.grad for p in model.parameters()]
    buffers = [b.clone() for b in model.buffers()]
    stream = torch.get_rng_state()
    draws = (random.getstate(), np.random.get_state()[1].copy())  # type: ignore[index]  # noqa: NPY002
    with isolated(model):
        assert all(p.grad is None for p in model.parameters())
        model(torch.randn(6, 4) + 5).sum().backward()
        random.random()
        np.random.rand()  # noqa: NPY002
    assert all(a is p.grad for a, p in zip(gradients, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert torch.equal(stream, torch.get_rng_state())
    assert random.getstate() == draws[0]
    assert (np.random.get_state()[1] == draws[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_the_model_is_restored_when_the_experiment_fails() -> None:
    model = model_after_a_step()
    before = [b.clone() for b in model.buffers()]
    try:
        with isolated(model):
            model(torch.randn(6, 4) + 5)
            raise ValueError
    except ValueError:
        pass
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
