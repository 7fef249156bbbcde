"""Seeds of a script: set before it starts, and those that it sets itself moved by a constant."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng

SEEDS = 2**32
"""NumPy takes no seed from here on."""

APART = 0x9E3779B1
"""Between the seeds that stand for the system's entropy; odd, so that none comes twice."""


def seed_everything(seed: int) -> None:
    """Seed what a script may draw from without seeding it."""
    random.seed(seed)
    np.random.seed(seed % SEEDS)  # noqa: NPY002 - the global stream is what scripts draw from
    torch.manual_seed(seed)


class OwnSeeds:
    """The seeds that a program sets itself: noted, and moved by ``shift``.

    Of ``torch.manual_seed``, ``random.seed``, ``numpy.random.seed`` and
    ``numpy.random.default_rng``, whole numbers are moved; where the program leaves the seed to the
    system, which would make no two runs alike, ``seed`` and the number of the call decide it. A
    ``torch.Generator`` of the program's own keeps its seed.

    Args:
        seed: what the program was seeded with before it started.
        shift: added to each whole number.

    Attributes:
        first: by the function's name, the first whole number that the program gave it; without
            generators that installed libraries make for themselves.
    """

    def __init__(self, seed: int, shift: int) -> None:
        self.first: dict[str, int] = {}
        self._seed = seed
        self._shift = shift
        self._left_out = 0

    def listen(self) -> None:
        """Put listeners in place of the four functions, until the process ends."""
        torch.manual_seed = self._moving(torch.manual_seed, "torch.manual_seed")
        torch.random.manual_seed = torch.manual_seed
        random.seed = self._moving(random.seed, "random.seed")
        np.random.seed = self._moving(np.random.seed, "numpy.random.seed")
        np.random.default_rng = self._moving(default_rng, "numpy.random.default_rng")

    def _moving(self, seeding: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(seeding)
        def seed_elsewhere(*args: Any, **kwargs: Any) -> Any:
            key = next(iter({"seed", "a"} & kwargs.keys()), None)
            seed: Any = kwargs[key] if key else args[0] if args else None
            if _is_whole(seed) and not (seeding is default_rng and _is_library(sys._getframe(1))):
                self.first.setdefault(name, int(seed))
            if key is not None:
                kwargs[key] = self._moved(seed)
            elif args or name != "torch.manual_seed":  # which takes no call without a seed
                args = (self._moved(seed), *args[1:])
            return seeding(*args, **kwargs)

        return seed_elsewhere

    def _moved(self, seed: Any) -> Any:
        if seed is None:
            self._left_out += 1
            return (self._seed + self._left_out * APART) % SEEDS
        # Unmoved it is left as it is: torch takes negative seeds too.
        return (int(seed) + self._shift) % SEEDS if self._shift and _is_whole(seed) else seed


def _is_whole(seed: Any) -> bool:
    return isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)


def _is_library(caller: FrameType) -> bool:
    return bool({"site-packages", "dist-packages"} & set(Path(caller.f_code.co_filename).parts))
