"""numpy's global stream goes on as if nothing had been drawn."""

# ruff: noqa: NPY002 - what is kept is the stream of the global functions

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import mtrand

from precscope.probes.numpy_stream import NumpyStream

DRAWS: list[Callable[[], object]] = [
    lambda: None,
    lambda: np.random.rand(1),
    lambda: np.random.rand(1000),
    lambda: np.random.randn(1),
    lambda: np.random.randn(2),
    lambda: np.random.randn(3),
    lambda: np.random.seed(3),
    lambda: np.random.permutation(5),
]


@pytest.mark.parametrize("before", DRAWS)
@pytest.mark.parametrize("inside", DRAWS)
def test_the_stream_goes_on_where_it_stood(
    before: Callable[[], object], inside: Callable[[], object]
) -> None:
    np.random.seed(7)
    before()
    expected = np.random.randn(3).tolist(), np.random.rand(700).tolist()
    np.random.seed(7)
    before()
    for _ in range(3):  # the first copy is reused by the others
        stream = NumpyStream()
        inside()
        stream.restore()
    assert (np.random.randn(3).tolist(), np.random.rand(700).tolist()) == expected


def test_a_deviate_that_is_held_back_and_used_inside_is_held_back_again() -> None:
    np.random.seed(7)
    first = [float(np.random.randn()) for _ in range(4)]
    np.random.seed(7)
    found = [float(np.random.randn())]
    for _ in range(2):
        stream = NumpyStream()
        np.random.randn()  # the one that is held back: the generator itself does not move
        stream.restore()
    assert [*found, *(float(np.random.randn()) for _ in range(3))] == first


def test_streams_may_be_nested() -> None:
    np.random.seed(1)
    outer = NumpyStream()
    np.random.rand(3)
    inner = NumpyStream()
    expected = np.random.rand(2).tolist()
    inner.restore()
    assert np.random.rand(2).tolist() == expected
    outer.restore()
    np.random.seed(1)
    assert np.random.rand(3).shape == (3,)
    assert np.random.rand(2).tolist() == expected


def test_another_generator_is_kept_as_well() -> None:
    own = mtrand.get_bit_generator()
    mtrand.set_bit_generator(np.random.PCG64(5))
    try:
        stream = NumpyStream()
        expected = np.random.rand(4).tolist()
        stream.restore()
        assert np.random.rand(4).tolist() == expected
    finally:
        mtrand.set_bit_generator(own)
