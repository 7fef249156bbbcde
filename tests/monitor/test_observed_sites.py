"""Which tensors are counted, under which name, how often, and with which values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from precscope.histogram import ExponentHistogram
from precscope.kernels.reference import observe_reference
from precscope.kernels.row import new_rows, to_histogram
from precscope.monitor import Monitor
from tests.support.memory_sink import MemorySink


def naive(*tensors: torch.Tensor) -> ExponentHistogram:
    row = new_rows(1)[0]
    for tensor in tensors:
        observe_reference(tensor.detach(), row)
    return to_histogram(row)


def same(found: ExponentHistogram, expected: ExponentHistogram) -> bool:
    return (
        bool((found.counts == expected.counts).all())
        and bool((found.powers == expected.powers).all())
        and (found.zeros, found.infinities, found.nans)
        == (expected.zeros, expected.infinities, expected.nans)
        and found.amax == expected.amax
    )


def watch_one_step(model: nn.Module, *inputs: torch.Tensor, **kwargs: Any) -> MemorySink:
    sink = MemorySink()
    with Monitor(model, None, sink, **kwargs):
        total(model(*inputs)).backward()
    assert not sink.documents["coverage"]["observer_errors"]
    return sink


def total(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output.square().sum()
    values = list(output.values()) if isinstance(output, Mapping) else list(vars(output).values())
    return sum((total(v) for v in values), torch.zeros(()))


def test_counts_equal_those_of_the_tensors_themselves() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    x = torch.randn(7, 6)
    hidden = model[0](x)
    squashed = model[1](hidden)
    output = model[2](squashed)
    for tensor in (hidden, squashed, output):
        tensor.retain_grad()
    output.square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad()
    sink = watch_one_step(model, x)
    for name, tensor in (("0", hidden), ("1", squashed), ("2", output)):
        assert same(sink.histogram(name, "activation"), naive(tensor))
        assert tensor.grad is not None
        assert same(sink.histogram(name, "activation_gradient"), naive(tensor.grad))
    for name, gradient in gradients.items():
        assert gradient is not None
        assert same(sink.histogram(name, "weight_gradient"), naive(gradient))


def test_weights_are_those_that_made_the_gradient() -> None:
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    sink = MemorySink()
    with Monitor(model, optimizer, sink):
        model(torch.randn(2, 4)).sum().backward()
        optimizer.step()
    assert same(sink.histogram("weight", "weight"), naive(before))
    assert not torch.equal(before, model.weight)


def test_a_container_that_hands_on_its_childs_output_adds_no_site() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Identity())
    sink = watch_one_step(model, torch.randn(2, 3))
    assert sink.names("activation") == ["0.0"]
    reasons = {m["name"]: m["reason"] for m in sink.documents["coverage"]["modules_not_seen"]}
    assert set(reasons) == {"(root)", "0", "1"}
    assert all("another module made" in r for r in reasons.values())


def test_in_place_activation_is_a_site_of_its_own_with_both_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    sink = watch_one_step(model, torch.randn(8, 4))
    assert sink.names("activation") == ["0", "1"]
    before, after = sink.histogram("0", "activation"), sink.histogram("1", "activation")
    assert before.zeros == 0
    assert 0 < after.zeros < 32
    masked = sink.histogram("0", "activation_gradient")
    assert masked.zeros == after.zeros
    assert sink.histogram("1", "activation_gradient").total == 32


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shared(self.shared(x)) * 2


def test_a_module_used_twice_counts_both_uses_at_one_site() -> None:
    sink = watch_one_step(Twice(), torch.randn(5, 3))
    assert sink.names("activation") == ["shared", "(root)"]
    assert sink.histogram("shared", "activation").total == 30
    assert sink.histogram("shared", "activation_gradient").total == 30
    assert sink.histogram("shared.weight", "weight_gradient").total == 9


@dataclass
class Answer:
    logits: torch.Tensor
    extra: dict[str, Any]


class ManyOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    def forward(self, x: torch.Tensor) -> Answer:
        a, b = self.pair(x)
        return Answer(a + 1, {"b": b + 1, "ids": torch.arange(3), "none": None})


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 2, x * 3


def test_tuples_dicts_and_dataclasses_give_one_site_per_tensor() -> None:
    model = ManyOutputs()
    sink = MemorySink()
    with Monitor(model, None, sink):
        answer = model(torch.randn(4, requires_grad=True))
        (answer.logits.sum() + answer.extra["b"].sum()).backward()
    names = ["pair", "pair[1]", "(root)", "(root)[1]"]
    assert sink.names("activation") == names
    assert sorted(sink.names("activation_gradient")) == sorted(names)


class CheckpointedBlock(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(4, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, self.first(x), use_reentrant=self.reentrant) * 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_recomputation_is_not_counted_twice(reentrant: bool) -> None:
    sink = watch_one_step(CheckpointedBlock(reentrant), torch.randn(3, 4))
    for name in ("first", "inner.0", "inner.1"):
        assert sink.histogram(name, "activation").total == 12, name
        assert sink.histogram(name, "activation_gradient").total == 12, name


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_uncalled_and_scripted_modules_are_told_with_the_reason() -> None:
    model = nn.Module()
    model.used = nn.Linear(2, 2)
    model.unused = nn.Linear(2, 2)
    model.scripted = torch.jit.script(nn.ReLU())
    sink = MemorySink()
    with Monitor(model, None, sink):
        model.scripted(model.used(torch.randn(1, 2))).sum().backward()
    reasons = {m["name"]: m["reason"] for m in sink.documents["coverage"]["modules_not_seen"]}
    assert "not called" in reasons["unused"]
    assert "TorchScript" in reasons["scripted"]


def test_names_are_included_and_excluded_by_pattern() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    sink = watch_one_step(model, torch.randn(2, 3), include=("0*", "1*"), exclude=("1*",))
    assert {s.name for s in sink.sites} == {"0", "0.weight", "0.bias"}


def test_kinds_are_chosen() -> None:
    sink = watch_one_step(nn.Linear(3, 3), torch.randn(2, 3), kinds=("weight_gradient",))
    assert {s.kind for s in sink.sites} == {"weight_gradient"}


def test_sparse_gradients_are_read_by_their_values() -> None:
    model = nn.Embedding(10, 4, sparse=True)
    sink = watch_one_step(model, torch.tensor([1, 2, 2]))
    assert sink.histogram("weight", "weight_gradient").total == 12
