from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.half_accumulation import half_product, half_sum

Function = Callable[..., torch.Tensor]
BLOCKS = [1, 4, 8, 16]


def naive(left: torch.Tensor, right: torch.Tensor, block: int) -> torch.Tensor:
    """The definition: float32 inside a block, one rounding to FP16 after each."""
    result = torch.zeros(left.shape[0], right.shape[1])
    for i, j in itertools.product(range(left.shape[0]), range(right.shape[1])):
        total = torch.zeros(())
        terms = left[i].float() * right[:, j].float()
        for part in terms.split(block):
            inner = torch.zeros(())
            for term in part:
                inner = inner + term
            total = (total + inner).half().float()
        result[i, j] = total
    return result


def halves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).half()


def small_integers(*shape: int) -> torch.Tensor:
    return torch.randint(-2, 3, shape).half()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shape", [(3, 37, 5), (1, 16, 20), (18, 50, 2), (2, 1, 17)])
def test_a_product_is_the_definition_to_the_bit(shape: tuple[int, int, int], block: int) -> None:
    left, right = halves(*shape[:2]), halves(*shape[1:])
    assert torch.equal(half_product(left, right, block), naive(left, right, block))


def test_wide_products_go_by_chunks_of_columns_and_by_threads() -> None:
    left, right = halves(4, 300), halves(300, 1100)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = half_product(left, right, 8)
    finally:
        torch.set_num_threads(threads)
    columns = [0, 511, 512, 1023, 1024, 1099]
    assert torch.equal(shared[:2, columns], naive(left[:2], right[:, columns], 8))
    assert torch.equal(shared[:, 512:], half_product(left, right[:, 512:], 8))


@pytest.mark.parametrize("block", BLOCKS)
def test_rounding_is_that_of_the_dtype_for_every_half_and_between(block: int) -> None:
    codes = torch.arange(0x7C00, dtype=torch.int16).view(torch.float16).float()
    between = (codes[1:] + codes[:-1]) / 2
    last = torch.tensor([65504.0, 65519.996, 65520.0, 1e9, math.inf])
    near = [between, between.nextafter(torch.tensor(9e9)), between.nextafter(torch.tensor(0.0))]
    values = torch.cat([codes, *near, last])
    values = torch.cat([values, -values])
    # One term, in float32, so that nothing but the rounding happens.
    rounded = half_product(torch.ones(1, 1), values[None], block)[0]
    assert torch.equal(rounded, values.half().float())
    assert half_product(torch.ones(1, 1), torch.tensor([[math.nan]]), block).isnan().all()


def test_an_overflow_of_a_partial_sum_stays_infinite() -> None:
    left = torch.tensor([[40000.0, 40000.0, -40000.0, -40000.0]]).half()
    ones = torch.ones(4, 1).half()
    assert half_product(left, ones, 1).item() == math.inf
    assert half_product(left, ones, 4).item() == 0.0
    with half_on_cpu(1):
        assert (left @ ones).item() == math.inf
        assert left.sum().item() == math.inf


@pytest.mark.parametrize(("block", "stops_at"), [(1, 2048), (4, 8192), (16, 32768)])
def test_a_sum_of_ones_stagnates_where_half_an_ulp_is_a_block(block: int, stops_at: int) -> None:
    ones = torch.ones(40000, dtype=torch.float16)
    assert half_sum(ones, [], False, block).item() == stops_at
    with half_on_cpu(block):
        assert ones.sum().item() == stops_at
        assert (ones @ ones).item() == stops_at
    with half_on_cpu():
        assert ones.sum().item() == 40000


def test_the_error_of_a_long_same_sign_sum_falls_with_the_block() -> None:
    left, right = torch.rand(8, 4096).half(), torch.rand(4096, 16).half()
    exact = left.double() @ right.double()
    errors = [
        float((half_product(left, right, block) - exact).norm() / exact.norm()) for block in BLOCKS
    ]
    assert errors == sorted(errors, reverse=True)
    assert 1e-2 < errors[0] < 1e-1
    assert errors[-1] < 4e-3


SUMS: dict[str, Function] = {
    "all": lambda x: x.sum(),
    "rows": lambda x: x.sum(0),
    "columns": lambda x: x.sum(-1),
    "two": lambda x: x.sum((0, 2), keepdim=True),
    "mean": lambda x: x.mean(),
    "mean_of_rows": lambda x: x.mean(0, keepdim=True),
    "none": lambda x: x[:0].sum(0),
    "scalar": lambda x: x[0, 0, 0].sum(),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_small_integers_are_exact(name: str) -> None:
    x = small_integers(3, 4, 5)
    with half_on_cpu(4):
        result = SUMS[name](x)
    expected = SUMS[name](x.float()).half()
    assert result.dtype == torch.float16
    assert result.shape == expected.shape
    assert torch.equal(result, expected)


def test_a_sum_that_asks_for_float32_gets_it() -> None:
    ones = torch.ones(4096, dtype=torch.float16)
    with half_on_cpu(1):
        assert ones.sum(dtype=torch.float32).item() == 4096
        assert ones.float().sum().item() == 4096


PRODUCTS: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "mm": (torch.mm, [(5, 7), (7, 3)]),
    "mm_transposed": (lambda a, b: a.t() @ b, [(7, 5), (7, 3)]),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        [(3,), (5, 7), (7, 3)],
    ),
    "bmm": (torch.bmm, [(2, 5, 7), (2, 7, 3)]),
    "baddbmm": (torch.baddbmm, [(2, 5, 3), (2, 5, 7), (2, 7, 3)]),
    "addbmm": (torch.addbmm, [(5, 3), (2, 5, 7), (2, 7, 3)]),
    "mv": (torch.mv, [(5, 7), (7,)]),
    "addmv": (torch.addmv, [(5,), (5, 7), (7,)]),
    "dot": (torch.dot, [(9,), (9,)]),
    "linear": (F.linear, [(4, 6), (5, 6), (5,)]),
    "conv1d": (F.conv1d, [(2, 3, 9), (4, 3, 3), (4,)]),
    "conv2d": (F.conv2d, [(2, 3, 6, 6), (4, 3, 3, 3), (4,)]),
    "strided": (
        lambda x, w: F.conv2d(x, w, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
        [(2, 4, 7, 6), (6, 2, 3, 2)],
    ),
    "depthwise": (lambda x, w: F.conv1d(x, w, groups=4, stride=3), [(2, 4, 11), (4, 1, 2)]),
    "conv3d": (lambda x, w: F.conv3d(x, w, padding=1), [(1, 2, 3, 4, 3), (2, 2, 2, 2, 2)]),
    "one_position": (lambda x, w: F.conv2d(x, w, groups=2), [(1, 4, 2, 2), (36, 2, 2, 2)]),
    "channels_last": (
        lambda x, w: F.conv2d(x.to(memory_format=torch.channels_last), w),
        [(2, 4, 4, 4), (3, 4, 2, 2)],
    ),
    "transposed": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, 2, padding=1, output_padding=1, groups=2),
        [(2, 4, 3, 4), (4, 3, 3, 3), (6,)],
    ),
    # Allowed with a larger dilation: the output has room for more inputs than there are.
    "padded_by_a_stride": (
        lambda x, w: F.conv_transpose1d(x, w, padding=1, output_padding=1, dilation=2),
        [(2, 2, 6), (2, 3, 2)],
    ),
    "padded_by_more": (
        lambda x, w: F.conv_transpose2d(x, w, output_padding=(2, 1), dilation=3, groups=2),
        [(2, 4, 3, 4), (4, 2, 1, 2)],
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_small_integers_are_exact_forward_and_backward(name: str) -> None:
    function, shapes = PRODUCTS[name]
    half = [small_integers(*shape).requires_grad_() for shape in shapes]
    single = [x.detach().float().requires_grad_() for x in half]
    with half_on_cpu(4):
        out = function(*half)
        upstream = small_integers(*out.shape)
        out.backward(upstream)
    expected = function(*single)
    expected.backward(upstream.float())
    assert torch.equal(out.float(), expected)
    for h, s in zip(half, single, strict=True):
        assert h.grad is not None
        assert s.grad is not None
        assert torch.equal(h.grad.float(), s.grad)


def test_long_gradients_accumulate_in_fp16_and_only_then() -> None:
    def gradients(block: int | None) -> list[float]:
        ones = torch.ones(4096, 1, dtype=torch.float16)
        weight = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
        bias = torch.ones(1, dtype=torch.float16, requires_grad=True)
        kernel = torch.ones(1, 1, 1, dtype=torch.float16, requires_grad=True)
        table = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
        with half_on_cpu(block):
            linear = F.linear(ones, weight, bias)
            conv = F.conv1d(ones.view(64, 1, 64), kernel)
            rows = F.embedding(torch.zeros(4096, dtype=torch.long), table)
            for out in (linear, conv, rows):
                out.backward(torch.ones_like(out))
        grads = (weight.grad, bias.grad, kernel.grad, table.grad)
        return [float(grad.item()) for grad in grads if grad is not None]

    assert gradients(None) == [4096.0] * 4
    assert gradients(1) == [2048.0] * 4
    # Native scatter kernels round after each addition, whatever the block.
    assert gradients(16) == [4096.0, 4096.0, 4096.0, 2048.0]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, **options)


MASK = torch.zeros(16, 16).masked_fill(torch.rand(16, 16) < 0.3, -math.inf).fill_diagonal_(0)
ATTENTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "masked": {"attn_mask": MASK},
    "scaled": {"scale": 0.7},
    "grouped": {"enable_gqa": True},
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_agrees_with_float64(name: str) -> None:
    heads = 2 if name == "grouped" else 4
    inputs = [halves(2, 4, 16, 8), halves(2, heads, 16, 8), halves(2, heads, 16, 8)]
    options = ATTENTIONS[name]
    half = [x.clone().requires_grad_() for x in inputs]
    double = [x.double().requires_grad_() for x in inputs]

    def with_mask_as(dtype: torch.dtype) -> dict[str, Any]:
        mask = options.get("attn_mask")
        return options | ({} if mask is None else {"attn_mask": mask.to(dtype)})

    with half_on_cpu(8):
        out = attend(*half, **with_mask_as(torch.float16))
        out.float().square().sum().backward()
    expected = attend(*double, **with_mask_as(torch.float64))
    expected.square().sum().backward()
    assert (out.double() - expected).norm() < 2e-3 * expected.norm()
    for h, d in zip(half, double, strict=True):
        assert h.grad is not None
        assert d.grad is not None
        assert (h.grad.double() - d.grad).norm() < 6e-3 * d.grad.norm()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_second_product_of_attention_accumulates_in_fp16(dropout: float) -> None:
    # One query looks at 8192 keys alike, so that each share is 2^-13 and each value counts 2^11.
    query, keys = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 8192, 4)
    values = torch.full((1, 1, 8192, 4), 2.0**11)
    inputs = [x.half() for x in (query, keys, values)]
    with half_on_cpu(1):
        low = attend(*inputs, dropout_p=dropout)
    with half_on_cpu():
        right = attend(*inputs, dropout_p=dropout)
    assert (low < 0.9 * right).all()


def test_an_lstm_is_taken_apart_into_products_with_fp16_sums() -> None:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(64, 8)
    x = torch.rand(3, 2, 64)
    enabled = torch._C._get_mkldnn_enabled()

    def run(block: int | None) -> torch.Tensor:
        lstm.zero_grad()
        with half_on_cpu(block), torch.autocast("cpu", torch.float16):
            out: torch.Tensor = lstm(x)[0]
            out.float().square().sum().backward()
        (grad, *_) = [p.grad for p in lstm.parameters()]
        assert grad is not None
        return grad.clone()

    single, low = run(None), run(1)
    assert not torch.equal(single, low)
    assert (single - low).norm() < 0.05 * single.norm()
    assert torch._C._get_mkldnn_enabled() == enabled


def test_inference_mode_accumulates_alike() -> None:
    layer = torch.nn.Linear(4096, 1, bias=False).half()
    layer.weight.data.fill_(1.0)
    x = torch.ones(1, 4096, dtype=torch.float16)
    with torch.inference_mode(), half_on_cpu(1):
        out = layer(x)
    assert out.item() == 2048.0


def test_in_place_and_out_forms_accumulate_alike() -> None:
    left, right = halves(4, 64), halves(64, 4)
    with half_on_cpu(1):
        out = torch.empty(0, dtype=torch.float16)
        torch.mm(left, right, out=out)
        target = torch.zeros(4, 4, dtype=torch.float16).addmm_(left, right)
    expected = half_product(left, right, 1).half()
    assert torch.equal(out, expected)
    assert torch.equal(target, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_keep_their_sums(dtype: torch.dtype) -> None:
    ones = torch.ones(1, 4096, dtype=dtype)
    with half_on_cpu(1):
        assert (ones @ ones.t()).item() == 4096
        assert ones.sum().item() == 4096
