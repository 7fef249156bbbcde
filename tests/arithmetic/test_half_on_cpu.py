from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint

from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.operators import reroutes

Function = Callable[..., torch.Tensor]


class Seen(TorchDispatchMode):
    """What reaches the kernels below ``half_on_cpu``: operator name and first dtype."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if first is not None:
            self.calls.append((func._schema.name, first.dtype))
        return func(*args, **(kwargs or {}))

    def dtypes(self, name: str) -> set[torch.dtype]:
        return {dtype for seen, dtype in self.calls if seen == f"aten::{name}"}


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).half()


INDEX = torch.tensor([0, 2, 2, 1])

FORWARD: dict[str, tuple[Function, list[torch.Tensor]]] = {
    "mm": (torch.mm, [randn(5, 7), randn(7, 3)]),
    "mm_transposed": (lambda a, b: torch.mm(a.t(), b), [randn(7, 5), randn(7, 3)]),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=0.5), [randn(3), randn(5, 7), randn(7, 3)]),
    "bmm": (torch.bmm, [randn(2, 5, 7), randn(2, 7, 3)]),
    "baddbmm": (torch.baddbmm, [randn(2, 5, 3), randn(2, 5, 7), randn(2, 7, 3)]),
    "addbmm": (torch.addbmm, [randn(5, 3), randn(2, 5, 7), randn(2, 7, 3)]),
    "mv": (torch.mv, [randn(5, 7), randn(7)]),
    "addmv": (torch.addmv, [randn(5), randn(5, 7), randn(7)]),
    "dot": (torch.dot, [randn(9), randn(9)]),
    "einsum": (lambda a, b: torch.einsum("bik,bjk->bij", a, b), [randn(2, 3, 4), randn(2, 5, 4)]),
    "linear": (F.linear, [randn(4, 6), randn(5, 6), randn(5)]),
    "conv1d": (F.conv1d, [randn(2, 3, 9), randn(4, 3, 3), randn(4)]),
    "conv2d": (F.conv2d, [randn(2, 3, 6, 6), randn(4, 3, 3, 3), randn(4)]),
    "conv_transpose2d": (F.conv_transpose2d, [randn(2, 3, 4, 4), randn(3, 2, 3, 3)]),
    "attention": (F.scaled_dot_product_attention, [randn(2, 2, 5, 8) for _ in range(3)]),
    "attention_masked": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
        [*(randn(2, 2, 5, 8) for _ in range(3)), randn(5, 5)],
    ),
    "square": (lambda a: a**2, [randn(33)]),
    "grid_sample": (
        lambda a, g: F.grid_sample(a, g, align_corners=False),
        [randn(1, 2, 5, 5), torch.rand(1, 3, 3, 2).half()],
    ),
    "fold": (lambda a: F.fold(a, (5, 5), 3), [randn(1, 18, 9)]),
    "index_add": (lambda a, s: a.index_add(0, INDEX, s), [randn(3, 4), randn(4, 4)]),
    "index_put": (
        lambda a, s: a.index_put((INDEX,), s, accumulate=True),
        [randn(3, 4), randn(4, 4)],
    ),
    "cdist": (torch.cdist, [randn(4, 3), randn(5, 3)]),
}

BACKWARD: dict[str, tuple[Function, list[torch.Tensor]]] = {
    "embedding": (lambda w: F.embedding(INDEX, w), [randn(3, 4)]),
    "embedding_bag": (lambda w: F.embedding_bag(INDEX.view(2, 2), w, mode="sum"), [randn(3, 4)]),
    "advanced_index": (lambda w: w[INDEX], [randn(3, 4)]),
    "max_pool2d": (lambda a: F.max_pool2d(a, 3, stride=1), [randn(1, 2, 6, 6)]),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 3, stride=1), [randn(1, 2, 6, 6)]),
    "sliding_window": (lambda a: a.unfold(0, 4, 1), [randn(9)]),
    "replicate_pad": (lambda a: F.pad(a, (2, 3), mode="replicate"), [randn(1, 2, 4)]),
}


@pytest.mark.parametrize("name", FORWARD)
def test_forward_is_the_float32_result_rounded_once(name: str) -> None:
    function, inputs = FORWARD[name]
    with half_on_cpu():
        result = function(*inputs)
    expected = function(*(x.float() for x in inputs)).half()
    assert result.dtype == torch.float16
    assert torch.equal(result, expected)


# One operator each: a chain of two would round in between, as it has to.
ONE_OPERATOR_BACKWARD = ["mm", "bmm", "conv1d", "conv2d", "conv_transpose2d", "grid_sample", "fold"]


@pytest.mark.parametrize("name", [*ONE_OPERATOR_BACKWARD, *BACKWARD])
def test_backward_is_the_float32_result_rounded_once(name: str) -> None:
    function, inputs = {**FORWARD, **BACKWARD}[name]
    half = [x.clone().requires_grad_() for x in inputs]
    single = [x.float().requires_grad_() for x in inputs]
    with half_on_cpu():
        out = function(*half)
        upstream = torch.randn(out.shape).half()
        out.backward(upstream)
    function(*single).backward(upstream.float())
    for h, s in zip(half, single, strict=True):
        assert h.grad is not None
        assert s.grad is not None
        assert h.grad.dtype == torch.float16
        assert torch.equal(h.grad, s.grad.half())


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_attention_backward_agrees_with_float64() -> None:
    inputs = [randn(2, 2, 16, 8) for _ in range(3)]
    half = [x.clone().requires_grad_() for x in inputs]
    double = [x.double().requires_grad_() for x in inputs]
    with half_on_cpu():
        causal_attention(*half).float().square().sum().backward()
    causal_attention(*double).square().sum().backward()
    for h, d in zip(half, double, strict=True):
        assert h.grad is not None
        assert d.grad is not None
        error = (h.grad.double() - d.grad).norm() / d.grad.norm()
        assert error < 4 * 2.0**-11


@pytest.mark.parametrize("length", [256, 4096])
def test_a_long_product_is_within_one_rounding_of_the_float64_result(length: int) -> None:
    a, b = randn(8, length).abs(), randn(length, 8).abs()
    with half_on_cpu():
        product = (a @ b).double()
    oracle = a.double() @ b.double()
    assert ((product - oracle).abs() <= 1.01 * 2.0**-11 * oracle).all()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("embedding", lambda w, i: F.embedding(i, w)),
        ("index", lambda w, i: w[i]),
        ("take", lambda w, i: w.take(i)),
        ("embedding_bag", lambda w, i: F.embedding_bag(i.view(-1, 1), w, mode="sum")),
    ],
)
def test_gradients_of_a_row_hit_8192_times_accumulate_in_float32(
    name: str, function: Function
) -> None:
    weight = torch.ones(1, 1, dtype=torch.float16, requires_grad=True)
    with half_on_cpu():
        out = function(weight, torch.zeros(8192, dtype=torch.long))
        out.backward(torch.ones_like(out))
    assert weight.grad is not None
    assert weight.grad.item() == 8192.0


def test_layer_norm_gradients_of_a_float32_weight_stay_float32_and_lose_nothing() -> None:
    x = torch.tensor([[1.0, -1.0]]).half().repeat(8191, 1)  # float16 has no 8191
    weight, bias = (torch.ones(2, requires_grad=True) for _ in range(2))
    with half_on_cpu():
        out = F.layer_norm(x, (2,), weight, bias)
        out.backward(torch.ones_like(out))
    assert bias.grad is not None
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert bias.grad.tolist() == [8191.0, 8191.0]


@pytest.mark.parametrize("block", [None, 16])
@pytest.mark.parametrize(
    "norm",
    [
        lambda x, w, b: F.layer_norm(x, (4,), w, b),
        lambda x, w, b: F.layer_norm(x, (4,), w) + b,
        lambda x, w, b: F.group_norm(x, 2, w, b),
    ],
)
def test_a_norm_of_float32_values_takes_float16_weights_as_autocast_on_cuda_does(
    norm: Function, block: int | None
) -> None:
    torch.manual_seed(0)
    x, upstream = torch.randn(8, 4), torch.randn(8, 4)
    weight, bias = torch.rand(4).half(), torch.rand(4).half()

    def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.clone(), weight.to(dtype), bias.to(dtype)]
        for leaf in leaves:
            leaf.requires_grad_()
        out = norm(*leaves)
        return [out, *torch.autograd.grad(out, leaves, upstream)]

    with half_on_cpu(block), torch.autocast("cpu", dtype=torch.float16):
        found = gradients(torch.float16)
    expected = gradients(torch.float32)
    assert [t.dtype for t in found] == [torch.float32] * 2 + [torch.float16] * 2
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b.to(a.dtype))


def test_log_sum_exp_of_attention_stays_float32() -> None:
    q = randn(1, 1, 4, 8)
    with half_on_cpu():
        out, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)
    assert (out.dtype, log_sum_exp.dtype) == (torch.float16, torch.float32)


def test_in_place_and_out_forms_store_into_their_target() -> None:
    a, b = randn(4, 4), randn(4, 4)
    target, out = a.clone(), torch.empty(0, dtype=torch.float16)
    index = torch.tensor([0, 0])
    rows = randn(4, 4)
    expected_rows = rows.float().index_add(0, index, b[:2].float()).half()
    with half_on_cpu():
        returned = target.addmm_(a, b)
        torch.mm(a, b, out=out)
        rows.index_add_(0, index, b[:2])
    assert returned is target
    assert torch.equal(target, torch.addmm(a.float(), a.float(), b.float()).half())
    assert torch.equal(out, (a.float() @ b.float()).half())
    assert torch.equal(rows, expected_rows)


def test_a_plain_indexed_store_is_left_alone() -> None:
    target = randn(4)
    with half_on_cpu():
        target[torch.tensor([1, 2])] = torch.ones(2, dtype=torch.float16)
    assert target[1:3].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_dtypes_are_bit_identical(dtype: torch.dtype) -> None:
    a, b = torch.randn(5, 7).to(dtype), torch.randn(7, 3).to(dtype)
    with half_on_cpu():
        result = a @ b
    assert result.dtype == dtype
    assert torch.equal(result, a @ b)


def test_a_mixture_of_dtypes_is_refused_as_it_is_without() -> None:
    with half_on_cpu(), pytest.raises(RuntimeError, match="dtype"):
        torch.mm(randn(2, 2), torch.randn(2, 2))


def test_overflow_of_the_store_is_infinite() -> None:
    a = torch.full((1, 4), 200.0, dtype=torch.float16)
    with half_on_cpu():
        assert (a @ a.t()).item() == float("inf")


def test_the_random_stream_is_the_same() -> None:
    x = randn(64, 64)

    def forward() -> torch.Tensor:
        torch.manual_seed(3)
        F.dropout(x @ x, 0.5)
        F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None], dropout_p=0.3)
        return torch.rand(4)

    plain = forward()
    with half_on_cpu():
        assert torch.equal(forward(), plain)


def run_lstm() -> torch.Tensor:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(6, 5, 2)
    x = torch.randn(4, 3, 6, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        out = lstm(x)[0]
    out.float().square().sum().backward()
    assert x.grad is not None
    return x.grad


def test_an_lstm_under_autocast_trains() -> None:
    torch.manual_seed(0)
    lstm, x = torch.nn.LSTM(6, 5, 2), torch.randn(4, 3, 6, requires_grad=True)
    lstm(x)[0].square().sum().backward()
    with half_on_cpu():
        gradient = run_lstm()
    assert x.grad is not None
    assert (gradient - x.grad).norm() / x.grad.norm() < 1e-2


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_backward_and_checkpoint_recomputation_are_rerouted(use_reentrant: bool) -> None:
    weight = randn(4, 4).requires_grad_()
    x = randn(3, 4).requires_grad_()
    seen = Seen()
    with seen, half_on_cpu():
        y: Any = checkpoint(lambda a: torch.tanh(a @ weight), x, use_reentrant=use_reentrant)
        y.sum().backward()
    assert seen.dtypes("mm") == {torch.float32}
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float16


@pytest.mark.parametrize("layer", [torch.nn.Linear(4, 4), torch.nn.Conv1d(4, 4, 1)])
def test_inference_mode_is_rerouted(layer: torch.nn.Module) -> None:
    layer = layer.half()
    seen = Seen()
    with torch.inference_mode(), seen, half_on_cpu():
        layer(randn(2, 4, 4))
    heavy = seen.dtypes("addmm") | seen.dtypes("mm") | seen.dtypes("convolution")
    assert heavy == {torch.float32}


def test_nested_use_adds_no_second_mode_and_ends_with_the_outer_one() -> None:
    with half_on_cpu():
        with half_on_cpu():
            assert len(_get_current_dispatch_mode_stack()) == 1
        assert len(_get_current_dispatch_mode_stack()) == 1
    assert _get_current_dispatch_mode_stack() == []


def fail_inside() -> None:
    with half_on_cpu():
        raise ValueError("mine")


def test_an_exception_leaves_no_mode_behind() -> None:
    with pytest.raises(ValueError, match="mine"):
        fail_inside()
    assert _get_current_dispatch_mode_stack() == []
    with half_on_cpu():
        assert len(_get_current_dispatch_mode_stack()) == 1


def switches() -> tuple[bool, bool]:
    sums = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    return sums, torch._C._get_mkldnn_enabled()


def test_threads_that_overlap_leave_the_process_s_switches_as_they_were() -> None:
    before = switches()
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))
    seen: list[tuple[bool, bool]] = []

    def first() -> None:
        with half_on_cpu(16):
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()

    def second() -> None:
        first_is_in.wait(10)
        with half_on_cpu(16):
            second_is_in.set()
            first_is_out.wait(10)
            seen.append(switches())

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The second still needs them when the first has gone.
    assert seen == [(True, False)]
    assert switches() == before


def test_the_operators_that_training_spends_its_time_in_are_covered() -> None:
    covered = {str(func) for func in reroutes()}
    needed = "mm addmm bmm baddbmm convolution convolution_backward embedding_dense_backward"
    assert {f"aten.{name}.default" for name in needed.split()} <= covered
