"""Random streams of a session: batches and evaluation never disturb the training stream.

The user's code draws from the global generators of torch, numpy and random, whatever it draws
for: initial weights, dropout, shuffling. Were all of that one stream, a recipe that consumes one
number more (a second forward pass, an operation that draws its dropout mask in another order)
would see other batches from then on, and a comparison of recipes would compare their data.

So there are three streams under one seed:

    training    the global generators as they are, seeded with ``seed``
    batches     seeded with SeedSequence((seed, 1)); swapped in around each call into batches()
    evaluation  seeded with SeedSequence((seed, 2)); swapped in around each call of evaluate()

A swap copies the states of the generators, draws nothing, and puts back what it found, so both
sides continue bit for bit as if the other did not exist.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch

BATCHES = 1
EVALUATION = 2


@dataclass(frozen=True, slots=True)
class RandomState:
    """The states of the global generators; ``cuda`` is that of one device, None on others."""

    torch_cpu: torch.Tensor
    cuda: torch.Tensor | None
    numpy: Any
    python: Any


def capture(device: torch.device) -> RandomState:
    """Copy the states of the global generators that code for ``device`` may draw from."""
    return RandomState(
        torch_cpu=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        numpy=np.random.get_state(),  # noqa: NPY002 - the generator that users' code draws from
        python=random.getstate(),
    )


def restore(state: RandomState, device: torch.device) -> None:
    """Put states from ``capture`` of the same device back."""
    torch.set_rng_state(state.torch_cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda, device)
    np.random.set_state(state.numpy)  # noqa: NPY002
    random.setstate(state.python)


def seed_everything(seed: int) -> None:
    """Seed torch (every device), numpy and random."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def derived_seed(seed: int, stream: int) -> int:
    """A seed for another stream, statistically independent of ``seed``; 32 bits."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1)[0])


class RandomStream:
    """A private stream: inside ``with stream:`` the global generators continue this stream.

    On leaving, the stream's position is kept and the global generators are as they were before.
    Not reentrant.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._outside = capture(device)
        _seed_only(seed, device)
        self._inside = capture(device)
        restore(self._outside, device)

    def __enter__(self) -> RandomStream:
        self._outside = capture(self._device)
        restore(self._inside, self._device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside = capture(self._device)
        restore(self._outside, self._device)


def _seed_only(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed other devices too
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
