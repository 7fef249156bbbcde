"""The shadow backward against gradients computed by hand, and the dtypes that autocast gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from precscope.probes.autocast_dtypes import autocast_dtypes
from precscope.probes.shadow_backward import GradientErrors, measure_gradient_errors


class Tiny(nn.Module):
    """loss = factor * sum(w * x): the gradient of w is exactly factor * x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1, bias=False)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def errors_of(factor: float, scales: list[int]) -> GradientErrors:
    model = Tiny(factor)

    def loss(batch: object) -> torch.Tensor:
        assert isinstance(batch, torch.Tensor)
        return model(batch).float().sum() * model.factor

    return measure_gradient_errors(model, loss, [torch.ones(1, 4)], scales, "cpu")


def test_a_gradient_at_a_power_of_two_is_exact_flushed_or_overflows_by_the_scale() -> None:
    errors = errors_of(2.0**-30, [0, 5, 6, 16, 45, 46])
    found = {k: errors.error(k, "linear.weight") for k in (0, 5, 6, 16, 45, 46)}
    assert found == {0: 1.0, 5: 1.0, 6: 0.0, 16: 0.0, 45: 0.0, 46: math.inf}


def test_batches_add_up_and_an_overflow_is_null_in_the_document() -> None:
    document = errors_of(1.0, [0, 20]).to_dict()
    assert document["batches"] == 1
    assert document["errors"] == {"0": {"linear.weight": 0.0}, "20": {"linear.weight": None}}


def test_the_model_is_given_back_unchanged() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(8, 4)
    stream = torch.get_rng_state()
    measure_gradient_errors(model, lambda _: model(x).square().mean(), [0, 0], [0, 4], "cpu")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_dropout_draws_the_same_mask_in_both_precisions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    x = torch.randn(32, 16)
    errors = measure_gradient_errors(model, lambda _: model(x).square().mean(), [0], [0], "cpu")
    assert all((errors.error(0, p) or 0) < 0.01 for p in errors.squares)


def test_a_parameter_without_gradient_has_no_error() -> None:
    assert GradientErrors(squares={"p": 0.0}, differences={0: {"p": 0.0}}).error(0, "p") is None


def test_dtypes_are_those_of_a_real_step_with_fp16_weights_under_autocast() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Softmax(-1))
    found = autocast_dtypes(
        model, lambda: model(torch.tensor([1, 2, 3])).float().square().sum(), "cpu"
    )
    assert found[("0", "activation")] == "float16"
    assert found[("2", "activation")] == "float16"
    assert found[("2", "activation_gradient")] == "float16"
    assert found[("2.weight", "weight")] == "float16"
    assert found[("2.weight", "weight_gradient")] == "float16"
    assert found[("0.weight", "weight")] == "float16"
    assert found[("1.weight", "weight")] == "float32"
    assert found[("1.weight", "weight_gradient")] == "float32"
    assert all(p.grad is None for p in model.parameters())


def test_a_tied_weight_counts_as_half_if_any_use_casts_it() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(8, 4)
            self.out = nn.Linear(4, 8, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.embed(x))

    model = Tied()
    found = autocast_dtypes(model, lambda: model(torch.tensor([1])).float().sum(), "cpu")
    assert found[("embed.weight", "weight")] == "float16"


@pytest.mark.parametrize("factor", [1.0])
def test_errors_do_not_depend_on_the_other_scales_tried(factor: float) -> None:
    alone = errors_of(factor * 1.1e-7, [3]).error(3, "linear.weight")
    together = errors_of(factor * 1.1e-7, [0, 3, 9]).error(3, "linear.weight")
    assert alone == together


def test_a_complex_gradient_counts_with_both_its_parts() -> None:
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    def loss(_: object) -> torch.Tensor:
        both = torch.view_as_real(model.get_parameter("weight"))
        return (both * torch.tensor([3.0, 4.0])).sum()

    found = measure_gradient_errors(model, loss, [0], [0], "cpu")
    assert found.squares == {"weight": 2 * (3.0**2 + 4.0**2)}
    assert found.error(0, "weight") == 0.0
