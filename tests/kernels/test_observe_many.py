"""Many tensors in one call: the same bits as one by one, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from precscope.kernels import new_rows, observe, observe_many, row
from precscope.kernels.cpu import PARALLEL_FROM, _even_bounds


@pytest.fixture(autouse=True)
def _restore_thread_count() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


MIXED = [
    torch.nn.Parameter(values(7, 9)),
    values(5000),
    values(30, 7).t(),
    values(40, 12)[::3, ::2],
    values(9, 1).expand(9, 11),
    values(0),
    values(1)[0],
    values(700).to(torch.bfloat16),
    values(300).to(torch.float16),
    values(65).double(),
    values(80).to(torch.float8_e5m2),
    torch.tensor([0.0, torch.inf, torch.nan, 1e-42]),
]


def assert_as_one_by_one(tensors: list[torch.Tensor]) -> None:
    together, apart = new_rows(len(tensors)), new_rows(len(tensors))
    observe_many(tensors, list(together))
    for tensor, one in zip(tensors, apart, strict=True):
        observe(tensor, one)
    assert torch.equal(together, apart)
    assert (together[:, row.OBSERVATIONS] == 1).all()


def test_tensors_of_all_kinds() -> None:
    assert_as_one_by_one(list(MIXED))


def test_nothing_at_all() -> None:
    untouched = new_rows(1)
    observe_many([], [])
    assert not untouched.any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tensors_that_are_large_together_or_alone(threads: int) -> None:
    torch.set_num_threads(threads)
    tensors = [values(PARALLEL_FROM // 3 + i) for i in range(4)]
    assert_as_one_by_one([*tensors, values(PARALLEL_FROM + 1), values(3)])


@pytest.mark.parametrize("size", [100, PARALLEL_FROM // 2 + 1])
def test_a_row_may_occur_twice(size: int) -> None:
    torch.set_num_threads(2)
    first, second = values(size), values(size + 1)
    together, apart = new_rows(2)
    observe_many([first, second], [together, together])
    observe(first, apart)
    observe(second, apart)
    assert torch.equal(together, apart)


def test_what_cannot_be_observed_is_refused() -> None:
    one = new_rows(1)[0]
    with pytest.raises(TypeError, match="int64 tensor"):
        observe_many([torch.arange(3)], [one])
    with pytest.raises(TypeError, match="new_rows"):
        observe_many([values(3)], [one[:-1]])
    with pytest.raises(ValueError, match="shorter"):
        observe_many([values(3), values(3)], [one])
    assert not one.any()


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1], [100, 1, 1], [1, 1, 100], [0, 0]])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_bounds_cover_the_list_once(sizes: list[int], parts: int) -> None:
    bounds = _even_bounds(sizes, parts)
    assert (bounds[0], bounds[-1], len(bounds)) == (0, len(sizes), parts + 1)
    assert bounds == sorted(bounds)
