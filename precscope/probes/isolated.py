"""Borrow a model for an experiment and give it back as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from precscope.probes.numpy_stream import NumpyStream


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Restore gradients, buffers and every random stream when the block ends.

    Forward passes move BatchNorm's running statistics and draw from the dropout stream; an
    experiment in the middle of a training must leave neither changed. Inside the block every
    parameter starts without a gradient.
    """
    gradients = [(p, p.grad) for p in model.parameters()]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    with random_streams_kept():
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
            for parameter, gradient in gradients:
                parameter.grad = gradient


@contextmanager
def random_streams_kept() -> Iterator[None]:
    """Restore torch's (CPU and CUDA), numpy's and Python's random streams when the block ends."""
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    numpy_stream, python_state = NumpyStream(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        numpy_stream.restore()
        random.setstate(python_state)
