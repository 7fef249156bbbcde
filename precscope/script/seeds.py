"""Seeds of a script: set before it starts, and those that it sets itself moved by a constant."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

SEEDS = 2**32
"""NumPy takes no seed from here on."""


def seed_everything(seed: int) -> None:
    """Seed what a script may draw from without seeding it."""
    random.seed(seed)
    np.random.seed(seed % SEEDS)  # noqa: NPY002 - the global stream is what scripts draw from
    torch.manual_seed(seed)


def shift_seeds(shift: int) -> None:
    """Add ``shift`` to every whole number that the program seeds a global generator with.

    Seeds ``torch.manual_seed``, ``random.seed``, ``numpy.random.seed`` and
    ``numpy.random.default_rng``; a ``torch.Generator`` of the program's own keeps its seed.
    """
    torch.manual_seed = torch.random.manual_seed = _shifted(torch.manual_seed, shift)
    random.seed = _shifted(random.seed, shift)
    np.random.seed = _shifted(np.random.seed, shift)
    np.random.default_rng = _shifted(np.random.default_rng, shift)


def _shifted(seeding: Callable[..., Any], shift: int) -> Callable[..., Any]:
    @functools.wraps(seeding)
    def seed_elsewhere(*args: Any, **kwargs: Any) -> Any:
        if args:
            args = (_moved(args[0], shift), *args[1:])
        for name in {"seed", "a"} & kwargs.keys():
            kwargs[name] = _moved(kwargs[name], shift)
        return seeding(*args, **kwargs)

    return seed_elsewhere


def _moved(seed: Any, shift: int) -> Any:
    is_number = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    return (int(seed) + shift) % SEEDS if is_number else seed
