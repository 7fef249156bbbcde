"""The sampled addends add up to what the operator itself returns."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn import functional

from precscope.probes.accumulation import convolutions
from tests.probes.accumulation_calls import at_samples, call_of, halves, sums_in, totals

aten = torch.ops.aten


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-3) -> None:
    torch.testing.assert_close(found, expected.double(), rtol=tolerance, atol=tolerance)


def test_products_of_matrices_in_any_layout() -> None:
    a, b = halves(9, 20), halves(13, 20, seed=1).t()
    for call in (
        call_of(aten.mm.default, a, b),
        call_of(aten.addmm.default, torch.zeros(13), a, b),
        call_of(aten.bmm.default, halves(3, 9, 20), halves(3, 20, 5).transpose(0, 0)),
        call_of(aten.mv.default, a, b[:, 0]),
        call_of(aten.dot.default, a[0], b[:, 1]),
        call_of(aten.baddbmm.default, torch.zeros(3, 9, 5), halves(3, 9, 20), halves(3, 20, 5)),
    ):
        (found,) = sums_in(call).values()
        assert found.length == 20
        assert_close(totals(found), at_samples(call.result))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_and_their_three_gradients(
    dims: int, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "IMAGES", 100)  # the same samples as at_samples
    for stride, padding, dilation, groups in product((1, 2), (0, 1), (1, 2), (1, 2)):
        out_padding = 1 if transposed and stride * dilation > 1 else 0
        layout = [[stride] * dims, [padding] * dims, [dilation] * dims, transposed]
        x, kernel = halves(3, 4, *(9, 8, 5)[:dims]), (3, 2, 3)[:dims]
        w = halves(*((4, 6 // groups) if transposed else (6, 4 // groups)), *kernel, seed=1)
        rest = (*layout, [out_padding] * dims, groups)
        call = call_of(aten.convolution.default, x, w, None, *rest)
        forward = sums_in(call)["forward"]
        inputs = 4 // groups
        assert forward.length == inputs * math.prod(kernel)
        assert_close(totals(forward), at_samples(call.result))

        dy = halves(*call.result.shape, seed=2)
        call = call_of(
            aten.convolution_backward.default, dy, x, w, [6], *rest, [True] * 3,
            scale=4.0, backward=True,
        )  # fmt: skip
        names = ("input gradient", "weight gradient", "bias gradient")
        for name, gradient in zip(names, call.result, strict=True):
            assert_close(totals(sums_in(call)[name]) / 4, at_samples(gradient), 5e-3)
        positions = math.prod(dy.shape[2:] if not transposed else x.shape[2:])
        if not transposed:
            assert sums_in(call)["weight gradient"].length == 3 * positions


def test_sums_and_means_over_any_dimensions() -> None:
    x = halves(4, 5, 6).permute(2, 0, 1)
    for dims in ([0], [1, 2], [-1], []):
        call = call_of(aten.sum.dim_IntList, x, dims)
        (found,) = sums_in(call).values()
        assert_close(totals(found), at_samples(call.result))
    call = call_of(aten.mean.dim, x, [0, 2])
    (found,) = sums_in(call).values()
    assert_close(totals(found) / found.length, at_samples(call.result))


def test_softmax_denominators_and_losses() -> None:
    x = halves(12, 30)
    call = call_of(aten._log_softmax.default, x, 1, False)
    denominators = totals(sums_in(call)["softmax denominator"])
    expected = (x.logsumexp(1) - x.amax(1)).exp()
    assert_close(denominators, expected, 2e-3)

    target = torch.arange(12) % 30
    target[3] = -100
    loss = call_of(aten.nll_loss_forward.default, call.result, target, None, 1, -100)
    found = sums_in(loss)["loss"]
    assert found.length == 12
    assert_close(totals(found) / 11, loss.result[0].reshape(1), 1e-2)

    squared = call_of(aten.mse_loss.default, x, x * 0.5, 1)
    assert_close(totals(sums_in(squared)["loss"]) / x.numel(), squared.result.reshape(1), 1e-2)


def test_statistics_of_normalisation_layers_and_their_gradients() -> None:
    x, w = halves(6, 8, 5), halves(8)
    call = call_of(aten.native_group_norm.default, x, w, w, 6, 8, 5, 2, 1e-5)
    found = sums_in(call)
    assert found["mean"].length == 20
    assert_close(totals(found["mean"]) / 20, call.result[1].reshape(-1))
    mean_of_squares = x.reshape(12, 20).square().mean(1)
    assert_close(totals(found["mean of squares"]) / 20, mean_of_squares)

    running = torch.zeros(8), torch.ones(8)
    call = call_of(aten.native_batch_norm.default, x, w, w, *running, True, 0.1, 1e-5)
    assert_close(totals(sums_in(call)["mean"]) / 30, call.result[1])
    assert sums_in(call)["mean"].length == 30

    for shape in ([5], [8, 5]):
        affine = halves(*shape)
        y = aten.native_layer_norm.default(x, shape, affine, affine, 1e-5)
        dy = halves(6, 8, 5, seed=3)
        call = call_of(
            aten.native_layer_norm_backward.default, dy, x, shape, y[1], y[2], affine, affine,
            [True] * 3, scale=8.0, backward=True,
        )  # fmt: skip
        gradients = sums_in(call)
        assert_close(totals(gradients["weight gradient"]) / 8, at_samples(call.result[1]), 1e-2)
        assert_close(totals(gradients["bias gradient"]) / 8, at_samples(call.result[2]))


def test_batch_norm_in_evaluation_adds_nothing_up() -> None:
    x, ones = halves(6, 8, 5), torch.ones(8)
    call = call_of(aten.native_batch_norm.default, x, ones, ones, ones, ones, False, 0.1, 1e-5)
    assert sums_in(call) == {}


def attention_operands(length: int) -> tuple[torch.Tensor, ...]:
    return tuple(halves(2, 3, length, 8, seed=i) for i in range(4))


@pytest.mark.parametrize("is_causal", [False, True])
def test_fused_attention_and_its_gradients(is_causal: bool) -> None:
    q, k, v, grad = attention_operands(12)
    forward = aten._scaled_dot_product_flash_attention_for_cpu.default
    call = call_of(forward, q, k, v, 0.0, is_causal)
    output, log_sum_exp = call.result
    found = sums_in(call)
    assert [r.length for r in found.values()] == [8, 12, 12]
    plain = functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    assert_close(output.double(), plain)
    # Every sampled sum is an element of the result: the nearest one is as near as FP16 allows.
    assert_among(totals(found["attention output"]), plain)
    assert_among(totals(found["attention scores"]), q @ k.transpose(-1, -2))

    call = call_of(
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
        grad, q, k, v, output, log_sum_exp, 0.0, is_causal, scale=16.0, backward=True,
    )  # fmt: skip
    found, scale = sums_in(call), 8**-0.5
    for name, factor, gradient in zip(
        ("query", "key", "value"), (scale, scale, 1.0), call.result, strict=True
    ):
        assert_among(totals(found[f"attention {name} gradient"]) / 16 * factor, gradient)


def assert_among(values: torch.Tensor, results: torch.Tensor) -> None:
    distance = (values[:, None] - results.reshape(1, -1).double()).abs().amin(1)
    assert float(distance.max()) < 3e-3 * float(results.abs().max())


def test_attention_follows_a_mask_and_shared_key_heads() -> None:
    q, _, _, _ = attention_operands(12)
    k, v = halves(2, 1, 12, 8, seed=7), halves(2, 1, 12, 8, seed=8)
    mask = torch.zeros(12, 12).masked_fill(torch.arange(12)[None] > 5, -torch.inf)
    forward = aten._scaled_dot_product_flash_attention_for_cpu.default
    repeated = k.expand(2, 3, 12, 8), v.expand(2, 3, 12, 8)
    result = functional.scaled_dot_product_attention(q, *repeated, attn_mask=mask)
    shared = call_of(forward, q, *repeated, 0.0, False)
    shared.arguments.update(key=k, value=v, attn_mask=mask)
    assert_among(totals(sums_in(shared)["attention output"]), result)


def test_scatters_follow_the_most_hit_elements() -> None:
    grad = halves(50, 6)
    words = torch.tensor([3] * 20 + [1] * 18 + list(range(4, 16)))
    call = call_of(
        aten.embedding_dense_backward.default, grad, words, 16, -1, False, scale=2.0, backward=True
    )
    found = sums_in(call)["weight gradient"]
    assert found.length == 20
    assert_close(totals(found)[:6] / 2, call.result[3])
    ignored = call_of(aten.embedding_dense_backward.default, grad, words, 16, 3, False)
    assert sums_in(ignored)["weight gradient"].length == 18

    call = call_of(aten.index_add.default, torch.zeros(16, 6), 0, words, grad)
    (found,) = sums_in(call).values()
    assert found.length == 20
    assert_among(totals(found), call.result)

    call = call_of(aten.index_put.default, torch.zeros(16, 6), [words], grad, True)
    (found,) = sums_in(call).values()
    assert_among(totals(found), call.result)
    plain_store = call_of(aten.index_put.default, torch.zeros(16, 6), [words], grad, False)
    assert sums_in(plain_store) == {}

    call = call_of(aten.scatter_add.default, torch.zeros(16, 6), 0, words[:, None] * torch.ones(
        6, dtype=torch.int64), grad)  # fmt: skip
    (found,) = sums_in(call).values()
    assert_among(totals(found), call.result)


def test_overlapping_pooling_windows_that_share_their_maximum() -> None:
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1.0
    _, where = aten.max_pool2d_with_indices.default(x, [3, 3], [1, 1])
    grad = halves(1, 1, 3, 3)
    call = call_of(
        aten.max_pool2d_with_indices_backward.default, grad, x, [3, 3], [1, 1], [0, 0], [1, 1],
        False, where, backward=True,
    )  # fmt: skip
    (found,) = sums_in(call).values()
    assert found.length == 9
    assert_among(totals(found), call.result)


@pytest.mark.parametrize("mode", [0, 1])
def test_embedding_bags(mode: int) -> None:
    words, bags = torch.tensor([1, 2, 1, 1, 3, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    sizes, largest = torch.tensor([2, 2, 2]), torch.zeros(3, dtype=torch.int64)
    grad = halves(3, 7, seed=4)
    call = call_of(
        aten._embedding_bag_dense_backward.default, grad, words, bags, sizes, largest, 5, False,
        mode, None, backward=True,
    )  # fmt: skip
    found = sums_in(call)["weight gradient"]
    assert found.length == 4
    assert_close(totals(found)[:7], call.result[1])
