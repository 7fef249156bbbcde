"""What a hook calls: a kernel bound to its row counts the same bits as ``observe``."""

from __future__ import annotations

import pytest
import torch

from precscope.kernels import new_rows, observe, observer, observer_of_many, row
from precscope.kernels.cpu import PARALLEL_FROM


def values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


KINDS = {
    "parameter": torch.nn.Parameter(values(7, 9)),
    "chunks": values(9000),
    "relu": values(20000).relu(),
    "transposed": values(30, 7).t(),
    "with gaps": values(40, 12)[::3, ::2],
    "expanded": values(9, 1).expand(9, 11),
    "empty": values(0),
    "scalar": values(1)[0],
    "bfloat16": values(700).to(torch.bfloat16),
    "float8": values(80).to(torch.float8_e5m2),
    "special": torch.tensor([0.0, torch.inf, torch.nan, 1e-42]),
    "large": values(PARALLEL_FROM + 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_observer_counts_as_observe_does(kind: str) -> None:
    bound, plain = new_rows(2)
    count = observer(bound)
    for _ in range(2):
        count(KINDS[kind])
        observe(KINDS[kind], plain)
    assert torch.equal(bound, plain)
    assert bound[row.OBSERVATIONS] == 2


def test_an_observer_refuses_what_observe_refuses() -> None:
    with pytest.raises(TypeError, match="new_rows"):
        observer(torch.zeros(3))
    one = new_rows(1)[0]
    with pytest.raises(TypeError, match="int64"):
        observer(one)(torch.arange(3))
    with pytest.raises(TypeError, match="sparse"):
        observer(one)(torch.eye(2).to_sparse())
    assert not one.any()


def test_an_observer_keeps_its_row_alive() -> None:
    count = observer(new_rows(1)[0])
    for _ in range(3):
        count(values(100))
        count(values(0))
    with pytest.raises(TypeError):
        count(torch.arange(3))


def test_many_plain_tensors_are_observed_in_one_call() -> None:
    tensors = [values(5), values(7, 9), values(5000).relu()]
    together, apart = new_rows(3), new_rows(3)
    count = observer_of_many(list(together))
    assert count is not None
    for _ in range(2):
        assert count(tensors)
        for tensor, one in zip(tensors, apart, strict=True):
            observe(tensor, one)
    assert torch.equal(together, apart)


@pytest.mark.parametrize(
    "other",
    [
        values(0),
        values(40, 12)[::3, ::2],
        values(4).double(),
        torch.arange(3),
        torch.empty(3, device="meta"),
        torch.eye(2).to_sparse(),
        values(PARALLEL_FROM),
    ],
    ids=["empty", "gaps", "dtype", "integers", "meta", "sparse", "large"],
)
def test_many_are_all_left_to_the_caller_if_one_is_not_plain(other: torch.Tensor) -> None:
    rows = new_rows(2)
    count = observer_of_many(list(rows))
    assert count is not None
    assert not count([values(5), other])
    assert not count([other, values(5)])
    assert not count([values(5)])
    assert not rows.any()


def test_an_observer_of_many_refuses_wrong_rows() -> None:
    with pytest.raises(TypeError, match="new_rows"):
        observer_of_many([new_rows(1)[0], torch.zeros(3)])


@pytest.mark.parametrize("zeros_in", [(), (0,), (1,), (0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("size", [3 * 4096, 2 * 4096 + 100])
def test_chunks_with_and_without_zeros_follow_each_other(
    size: int, zeros_in: tuple[int, ...]
) -> None:
    from precscope.kernels.reference import observe_reference

    tensor = values(size)
    for chunk in zeros_in:
        tensor[4096 * chunk : 4096 * chunk + 5000 : 3] = 0.0
    tensor[5], tensor[4100], tensor[-1] = 0.5, -2.0, 1e-41
    found, right = new_rows(2)
    observe(tensor, found)
    observe_reference(tensor, right)
    sums = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
    torch.testing.assert_close(
        found.view(torch.float64)[sums], right.view(torch.float64)[sums], rtol=1e-12, atol=0.0
    )
    found[sums] = right[sums] = 0
    assert torch.equal(found, right)
