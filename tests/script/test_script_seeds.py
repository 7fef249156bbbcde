"""Seeds that a script sets itself: noted, moved, and decided where it leaves them to the system."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from precscope.script.seeds import OwnSeeds, seed_everything


@pytest.fixture(autouse=True)
def own_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The four functions are put back, and the streams are as they were."""
    for owner, name in (
        (torch, "manual_seed"),
        (torch.random, "manual_seed"),
        (random, "seed"),
        (np.random, "seed"),
        (np.random, "default_rng"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    with torch.random.fork_rng():
        yield


def listening(seed: int, shift: int) -> OwnSeeds:
    seed_everything(seed)
    own = OwnSeeds(seed, shift)
    own.listen()
    return own


def test_without_a_shift_a_program_draws_what_it_would_draw() -> None:
    expected = np.random.default_rng(5).normal()
    own = listening(0, 0)
    torch.manual_seed(-3)
    assert torch.initial_seed() == 2**64 - 3
    assert np.random.default_rng(5).normal() == expected
    assert own.first == {"torch.manual_seed": -3, "numpy.random.default_rng": 5}


def test_the_first_seed_of_each_function_is_noted_and_all_are_moved() -> None:
    own = listening(0, 2)
    torch.manual_seed(seed=7)
    torch.random.manual_seed(8)
    assert torch.initial_seed() == 10
    random.seed(a=1)
    moved = random.random()
    assert own.first == {"torch.manual_seed": 7, "random.seed": 1}
    assert moved == random.Random(3).random()
    random.seed("words are left alone")
    assert random.random() == random.Random("words are left alone").random()


def drawn(seed: int) -> list[Any]:
    listening(seed, 0)
    random.seed()
    np.random.seed(None)  # noqa: NPY002
    first, second = np.random.default_rng(), np.random.default_rng()
    legacy = np.random.rand()  # noqa: NPY002
    return [random.random(), legacy, first.random(), second.random()]


def test_what_a_program_leaves_to_the_system_is_the_same_in_every_run() -> None:
    values = drawn(4)
    assert values == drawn(4)
    assert len(set(values)) == len(values)
    assert not set(values) & set(drawn(5))


def test_generators_of_installed_libraries_are_no_seeds_of_the_program() -> None:
    own = listening(0, 0)
    code = compile("made = default_rng(615)", "/x/site-packages/library.py", "exec")
    names: dict[str, Any] = {"default_rng": np.random.default_rng}
    exec(code, names)
    assert names["made"].random() == pytest.approx(
        np.random.Generator(np.random.PCG64(615)).random()
    )
    assert own.first == {}
