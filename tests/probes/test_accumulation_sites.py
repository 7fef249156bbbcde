"""Which sums a training step is found to make, how they are named, and what is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from precscope.probes.accumulation import measure_accumulation

Sites = dict[tuple[str, str], dict[str, Any]]


def sites_of(model: nn.Module, loss: Callable[[], torch.Tensor], log2_scale: int = 0) -> Sites:
    document = measure_accumulation(model, loss, log2_scale)
    assert document["skipped"] == []
    return {(s["site"], s["operation"]): s for s in document["sites"]}


class Encoder(nn.Module):
    """Two linear layers under a name, a convolution, and norms of three kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 12)
        layer = nn.ModuleDict({"linear1": nn.Linear(12, 20), "linear2": nn.Linear(20, 12)})
        self.encoder = nn.ModuleList([layer])
        self.norm = nn.LayerNorm(12)
        self.conv = nn.Conv1d(12, 6, 3, groups=2)
        self.batch_norm = nn.BatchNorm1d(6)
        self.gain = nn.Parameter(torch.ones(6, 1))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.words(words)
        inner = self.encoder[0]
        assert isinstance(inner, nn.ModuleDict)
        x = x + inner["linear2"](inner["linear1"](x).relu())
        x = functional.scaled_dot_product_attention(x, x, x)
        x = self.batch_norm(self.conv(self.norm(x).transpose(1, 2)))
        return (x * self.gain).mean(2)


def encoder_sites() -> Sites:
    model = Encoder()
    words, target = torch.randint(11, (8, 10)), torch.randint(6, (8,))
    return sites_of(model, lambda: functional.cross_entropy(model(words), target), 6)


def test_every_reduction_of_forward_and_backward_is_found_with_its_length() -> None:
    lengths = {name: site["length"] for name, site in encoder_sites().items()}
    assert lengths.pop(("words", "weight gradient")) >= 8  # 80 words of 11 kinds
    assert lengths.pop(("(root)", "gradient norm")) > 500
    assert lengths == {
        ("encoder.0.linear1", "forward"): 12,
        ("encoder.0.linear1", "input gradient"): 20,
        ("encoder.0.linear1", "weight gradient"): 80,
        ("encoder.0.linear1", "bias gradient"): 80,
        ("encoder.0.linear2", "forward"): 20,
        ("encoder.0.linear2", "input gradient"): 12,
        ("encoder.0.linear2", "weight gradient"): 80,
        ("encoder.0.linear2", "bias gradient"): 80,
        **attention_lengths(),
        ("norm", "mean"): 12,
        ("norm", "mean of squares"): 12,
        ("norm", "weight gradient"): 80,
        ("norm", "bias gradient"): 80,
        ("conv", "forward"): 18,
        ("conv", "input gradient"): 9,
        ("conv", "weight gradient"): 64,
        ("conv", "bias gradient"): 64,
        ("batch_norm", "mean"): 64,
        ("batch_norm", "mean of squares"): 64,
        ("batch_norm", "weight gradient"): 64,
        ("batch_norm", "bias gradient"): 64,
        ("(root)", "gain gradient"): 64,
        ("(root)", "mean"): 8,
        ("loss", "softmax denominator"): 6,
        ("loss", "loss"): 8,
        ("loss", "softmax gradient sum"): 6,
    }


def attention_lengths() -> dict[tuple[str, str], int]:
    """Self-attention of three dimensions is computed by plain products."""
    return {
        ("(root)", "product"): 12,
        ("(root)", "softmax denominator"): 10,
        ("(root)", "product 2"): 10,
        ("(root)", "softmax gradient sum"): 10,
        ("(root)", "gradient of the first factor of product"): 10,
        ("(root)", "gradient of the second factor of product"): 10,
        ("(root)", "gradient of the first factor of product 2"): 12,
        ("(root)", "gradient of the second factor of product 2"): 10,
    }


def test_products_round_after_sixteen_terms_and_other_sums_after_each() -> None:
    sites = encoder_sites()
    blocks = {s["family"]: s["block"] for s in sites.values()}
    assert blocks == {"product": 16, "reduction": 1, "scatter": 1}
    assert sites["encoder.0.linear1", "forward"]["phase"] == "forward"
    assert sites["encoder.0.linear1", "weight gradient"]["phase"] == "backward"


def test_short_sums_of_ordinary_numbers_do_well_everywhere() -> None:
    for name, site in encoder_sites().items():
        error = site["errors_fp16"][str(site["block"])]
        assert error is None or error < 2e-2, name


def test_a_gradient_that_is_zero_but_for_rounding_has_no_error() -> None:
    site = encoder_sites()["conv", "bias gradient"]  # a batch norm follows: the mean is taken off
    assert site["unmeasured"] == "the terms cancel to less than their own rounding"
    assert site["error_fp32"] is None


def test_model_gradients_buffers_and_random_streams_come_back_unchanged() -> None:
    model = Encoder()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    words, target = torch.randint(11, (8, 10)), torch.randint(6, (8,))
    before, stream = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    def loss() -> torch.Tensor:
        return functional.cross_entropy(functional.dropout(model(words)), target)

    measure_accumulation(model, loss)
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert torch.equal(model.conv.weight.grad, torch.ones_like(model.conv.weight))
    assert model.words.weight.grad is None
    assert torch.equal(torch.get_rng_state(), stream)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_same_step_is_measured_the_same_twice() -> None:
    model, x = nn.Linear(100, 300), torch.randn(50, 100)

    def loss() -> torch.Tensor:
        return model(x).square().mean()

    first, second = (measure_accumulation(model, loss)["sites"] for _ in range(2))
    assert first == second


def test_gradients_are_rounded_at_the_loss_scale() -> None:
    model, x = nn.Linear(8, 4, bias=False), torch.randn(64, 8)

    def loss() -> torch.Tensor:
        return model(x).sum() * 2.0**-30

    name = ("(root)", "weight gradient")
    assert sites_of(model, loss)[name]["unmeasured"] == "every sampled sum is zero"
    scaled = sites_of(model, loss, 30)[name]
    assert scaled["errors_fp16"]["16"] < 1e-2
    assert scaled["peak"] == pytest.approx(float(x.half().sum(0).abs().max()), rel=1)


def test_an_embedding_row_hit_8192_times_is_what_half_really_gets_wrong() -> None:
    model, words = nn.Embedding(4, 16), torch.ones(8192, dtype=torch.int64)
    site = sites_of(model, lambda: model(words).sum())["(root)", "weight gradient"]
    assert site["length"] == 8192
    assert site["errors_fp16"]["1"] == pytest.approx(0.75)  # 2048 in place of 8192
    assert site["error_native_fp16"] == pytest.approx(0.75)
    assert site["error_fp32"] == 0.0


def test_indexing_that_repeats_rows_is_added_in_half_as_well() -> None:
    model, rows = nn.Linear(4, 4), torch.zeros(8192, dtype=torch.int64)
    x = torch.randn(3, 4)
    site = sites_of(model, lambda: model(x)[rows].sum())["loss", "gradient of index"]
    assert site["length"] == 8192
    assert site["error_native_fp16"] == pytest.approx(0.75, abs=1e-3)


def test_a_layer_norm_with_a_large_mean_loses_its_variance() -> None:
    model = nn.LayerNorm(512)
    x = torch.randn(32, 512) * 0.02 + 8
    site = sites_of(model, lambda: model(x).square().sum())["(root)", "mean of squares"]
    assert site["cancellation"] == pytest.approx(64 / 0.0004, rel=0.2)
    assert site["errors_fp16"]["1"] * site["cancellation"] > 10


def test_a_sum_whose_total_fits_and_whose_partial_sums_overflow() -> None:
    model = nn.Linear(64, 8, bias=False)
    with torch.no_grad():
        model.weight.fill_(256.0)
    x = torch.cat([torch.full((16, 32), 30.0), torch.full((16, 32), -29.0)], 1)
    site = sites_of(model, lambda: model(x).mean())["(root)", "forward"]
    assert site["peak"] == 256 * 30 * 32
    assert site["errors_fp16"] == {"1": None, "4": None, "8": None, "16": None}
    assert site["error_fp32"] == 0.0


def test_a_recomputed_forward_is_not_taken_for_a_backward() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    x = torch.randn(10, 6, requires_grad=True)
    sites = sites_of(model, lambda: checkpoint(model, x, use_reentrant=False).sum())
    assert sites["0", "forward"]["calls"] == 2
    assert sites["0", "weight gradient"]["length"] == 10
    assert {name for name in sites if name[0] == "1"} == {
        ("1", "forward"),
        ("1", "input gradient"),
        ("1", "weight gradient"),
        ("1", "bias gradient"),
    }


def test_recurrent_layers_are_taken_apart() -> None:
    model = nn.LSTM(6, 5, batch_first=True)
    x = torch.randn(4, 7, 6)
    enabled = torch._C._get_mkldnn_enabled()
    sites = sites_of(model, lambda: model(x)[0].sum())
    assert torch._C._get_mkldnn_enabled() is enabled
    assert sites["(root)", "forward (weight_ih_l0)"]["length"] == 6
    assert sites["(root)", "forward (weight_hh_l0)"]["calls"] == 7
    assert sites["(root)", "weight_ih_l0 gradient"]["length"] == 28
    assert sites["(root)", "forward (weight_hh_l0)"]["unmeasured"] is None  # not the zero state


def test_fused_attention_is_named_by_what_it_computes() -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(8, 24)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.project(x).view(2, 9, 3, 2, 4).permute(2, 0, 3, 1, 4)
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    model, x = Attend(), torch.randn(2, 9, 8)
    found = {n[1]: s["length"] for n, s in sites_of(model, lambda: model(x).sum()).items()}
    assert {n: k for n, k in found.items() if n.startswith("attention")} == {
        "attention scores": 4,
        "attention softmax denominator": 9,
        "attention output": 9,
        "attention value gradient": 9,
        "attention probability gradient": 4,
        "attention query gradient": 9,
        "attention key gradient": 9,
    }


def test_an_operator_that_cannot_be_taken_apart_is_told() -> None:
    model, x = nn.Conv2d(1, 2, 3), torch.randn(2, 1, 8, 8)
    document = measure_accumulation(model, lambda: functional.avg_pool2d(model(x), 2).sum())
    assert {s["operator"] for s in document["skipped"]} == {"avg_pool2d", "avg_pool2d_backward"}


def test_a_failing_sampler_does_not_stop_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from precscope.probes.accumulation import samplers

    def fail(call: object) -> None:
        raise ValueError("broken on purpose")

    monkeypatch.setitem(samplers.SAMPLERS, "addmm", fail)
    model = nn.Linear(4, 4)
    document = measure_accumulation(model, lambda: model(torch.ones(2, 4)).sum())
    assert document["skipped"] == [
        {"operator": "addmm", "reason": "ValueError: broken on purpose", "count": 1}
    ]
    assert any(s["operation"] == "bias gradient" for s in document["sites"])


def test_a_loss_of_nan_leaves_no_site_of_nan() -> None:
    model = nn.Linear(4, 4)
    document = measure_accumulation(model, lambda: (model(torch.ones(2, 4)) * torch.nan).sum())
    assert {s["operation"] for s in document["sites"]} == {"forward"}
    assert any("NaN" in s["reason"] for s in document["skipped"])


def test_a_long_norm_stands_on_a_sample_and_says_so() -> None:
    model = nn.Linear(200, 200)
    sites = sites_of(model, lambda: model(torch.ones(2, 200)).sum())
    norm = sites["(root)", "gradient norm"]
    assert norm["length"] == 40200
    assert 10_000 < norm["sampled_length"] <= 1 << 14
