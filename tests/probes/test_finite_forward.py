"""Where a forward first breaks, told by the shadow backward and by looking at a plain forward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from precscope.probes.finite_forward import first_break, module_breaks
from precscope.probes.shadow_backward import measure_gradient_errors


class Times(nn.Module):
    """x times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def net(*factors: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), *map(Times, factors))


def loss_of(model: nn.Module) -> Callable[[object], torch.Tensor]:
    def loss(batch: object) -> torch.Tensor:
        assert isinstance(batch, torch.Tensor)
        return model(batch).float().clamp(-1, 1).sum()

    return loss


def broken_in(model: nn.Module, x: torch.Tensor) -> str | None:
    with module_breaks(model) as broken:
        loss = loss_of(model)(x)
    return first_break(broken, loss)


@pytest.mark.parametrize(
    ("factors", "culprit"),
    [((2.0,), None), ((float("inf"), 2.0), "1"), ((2.0, float("nan")), "2"), ((1e30, 1e30), "2")],
)
def test_the_first_module_to_break_is_named(factors: tuple[float, ...], culprit: str) -> None:
    assert broken_in(net(*factors), torch.ones(2, 4)) == culprit


def test_no_module_is_blamed_for_its_inputs_or_for_the_loss() -> None:
    model = net(2.0)
    assert broken_in(model, torch.full((2, 4), float("inf"))) == ""
    assert first_break([], torch.tensor(float("nan"))) == ""


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    model = net(2.0)
    with pytest.raises(RuntimeError), module_breaks(model):
        model(torch.ones(2, 5))
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize(("factor", "culprit"), [(1.0, None), (1e6, "1")])
def test_the_shadow_backward_looks_at_the_last_batch_in_fp16(
    factor: float, culprit: str | None
) -> None:
    torch.manual_seed(0)
    model = net(factor)
    batches = [torch.zeros(2, 4), torch.ones(2, 4)]
    assert isinstance(model[0], nn.Linear)
    nn.init.zeros_(model[0].bias)
    found = measure_gradient_errors(model, loss_of(model), batches, [0], "cpu", find_breaks=True)
    assert found.breaks == [culprit]
    nobody_asked = measure_gradient_errors(model, loss_of(model), batches, [0], "cpu")
    assert nobody_asked.breaks == []
    assert nobody_asked.to_dict() == found.to_dict()
