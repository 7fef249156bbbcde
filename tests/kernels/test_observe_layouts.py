"""Dense layouts are read in place, repeats are counted, everything else is still right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from precscope.kernels import new_rows, observe, row
from precscope.kernels.fallback import observe_fallback
from precscope.kernels.layout import COPY_LIMIT, dense_pieces, is_dense, without_repeats
from precscope.kernels.reference import observe_reference


def values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5)).to(dtype)


def assert_right(tensor: torch.Tensor) -> None:
    expected = new_rows(1)[0]
    observe_reference(tensor, expected)
    for kernel in (observe, observe_fallback):
        actual = new_rows(1)[0]
        kernel(tensor, actual)
        sums = slice(row.SUM_ABS, row.SUM_SQUARES + 1)
        close = torch.isclose(
            actual[sums].view(torch.float64),
            expected[sums].view(torch.float64),
            rtol=1e-12,
            atol=0.0,
        )
        assert close.all()
        actual[sums] = expected[sums]
        assert torch.equal(actual, expected)


LAYOUTS = {
    "0-dim": values(1)[0],
    "transposed": values(30, 7).t(),
    "permuted": values(3, 4, 5, 6).permute(2, 0, 3, 1),
    "channels-last": values(2, 3, 8, 9).to(memory_format=torch.channels_last),
    "length-1 dims": values(5, 1, 6).transpose(0, 2),
    "columns": values(40, 12)[:, 3:7],
    "steps": values(40, 12)[::3, ::2],
    "diagonal": values(20, 20).diagonal(),
    "overlapping": values(50).unfold(0, 8, 2),
    "expanded": values(9, 1).expand(9, 11),
    "expanded scalar": values(1)[0].expand(4, 5, 6),
    "expanded and sliced": values(9, 1, 8)[:, :, ::2].expand(9, 5, 4),
    "expanded and transposed": values(9, 7).t().unsqueeze(1).expand(7, 3, 9),
    "offset": values(100)[37:],
    "empty": values(0, 4),
    "empty expanded": values(1, 0).expand(6, 0),
}


@pytest.mark.parametrize("tensor", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tensor: torch.Tensor) -> None:
    assert_right(tensor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_strided_views_of_other_formats(dtype: torch.dtype) -> None:
    assert_right(values(40, 12, dtype=dtype)[::3, 1:9:2])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_view_of_any_view(data: st.DataObject) -> None:
    tensor = values(*data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)))
    tensor = tensor.permute(data.draw(st.permutations(range(tensor.dim()))))
    for dim in range(tensor.dim()):
        start, step = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * dim + (slice(start, None, step),)]
        if tensor.size(dim) == 1:
            tensor = tensor.expand(
                *(data.draw(st.integers(1, 4)) if d == dim else -1 for d in range(tensor.dim()))
            )
    assert_right(tensor)


def test_a_dense_tensor_is_read_where_it_lies() -> None:
    tensor = values(6, 5, 4).permute(2, 0, 1)
    assert [piece.data_ptr() for piece in dense_pieces(tensor)] == [tensor.data_ptr()]
    assert is_dense(tensor)
    assert not is_dense(tensor[:, ::2])


def test_copies_are_bounded_and_cover_the_tensor() -> None:
    tensor = values(64, 2 * COPY_LIMIT // 16)[:, ::2]
    pieces = list(dense_pieces(tensor))
    assert max(piece.numel() for piece in pieces) <= COPY_LIMIT
    assert torch.equal(torch.cat([piece.reshape(-1) for piece in pieces]), tensor.reshape(-1))


def test_repeats_are_cut_out() -> None:
    base, times = without_repeats(values(3, 1, 2).expand(3, 5, 2))
    assert (tuple(base.shape), times) == ((3, 1, 2), 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_views_that_only_change_sign_are_read_as_they_are(dtype: torch.dtype) -> None:
    tensor = torch.complex(values(20, dtype=dtype), -values(20, dtype=dtype)).conj().imag
    assert tensor.is_neg()
    assert_right(tensor)


def test_parameters_subclasses_and_graph_tensors_keep_their_graph() -> None:
    class Named(torch.Tensor):
        pass

    parameter = torch.nn.Parameter(values(33))
    activation = parameter * 2
    assert_right(parameter)
    assert_right(activation)
    assert_right(activation.expand(4, 33))
    assert_right(values(33).as_subclass(Named))
    activation.sum().backward()
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.full((33,), 2.0))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.arange(3), "int64 tensor"),
        (torch.zeros(3, dtype=torch.complex64), "complex64 tensor"),
        (torch.ones(3).to_sparse(), "sparse_coo tensor"),
    ],
    ids=["integer", "complex", "sparse"],
)
def test_what_cannot_be_observed_is_refused(tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        observe(tensor, new_rows(1)[0])


@pytest.mark.parametrize(
    "wrong", [new_rows(2), new_rows(1)[0, :-1], new_rows(1)[0].float(), new_rows(562).t()[0]]
)
def test_a_wrong_row_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="new_rows"):
        observe(values(3), wrong)
