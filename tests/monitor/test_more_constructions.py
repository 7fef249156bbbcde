"""Further things that programs do to models, each trained the same, watched or not."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from precscope.monitor import Monitor
from tests.monitor.test_must_not_break import Case, mlp, simple, train
from tests.support.memory_sink import MemorySink


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """An output like those of Transformers: a dataclass that is an ordered mapping, too."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class Answering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), Head()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer = self.head(torch.relu(self.body(x)))
        return answer["logits"] * answer.loss


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        logits = self.out(x) * 2.0
        return ModelOutput(loss=logits.square().mean(), logits=logits)


class Shared(nn.Module):
    """One module three times, once of them inside of another one, with two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.block = nn.Sequential(self.a, nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        y += self.block(y.clone())
        return self.block(y)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Quantized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(Straight.apply(self.a(x)))  # type: ignore[no-untyped-call]


class Nested(nn.Module):
    """Checkpoints inside of a checkpoint, of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(checkpoint(self.b, self.a(x), use_reentrant=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, checkpoint(self.inner, x, use_reentrant=False).sin(),
                          use_reentrant=True)  # fmt: skip


class Raising(nn.Module):
    """A module whose forward raises, and whose caller goes another way then."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), Picky()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        try:
            return self.b(y)
        except ValueError:
            return y.relu_()


class Picky(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        self.calls += 1
        if self.calls % 2:
            raise ValueError("not this time")
        return y


def pruned() -> nn.Module:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", amount=0.5)  # type: ignore[index]
    return model


def with_hooks_of_the_user() -> nn.Module:
    """The user's own hooks change outputs and gradients, before and after ours."""
    model = mlp()
    model[0].register_forward_hook(lambda m, i, o: o * 2.0)  # type: ignore[index]
    model[2].register_full_backward_hook(lambda m, i, o: (i[0] * 3.0,))  # type: ignore[index]
    model[2].weight.register_hook(lambda g: g.clamp(-0.1, 0.1))  # type: ignore[index]
    return model


def offloaded(model: nn.Module) -> torch.Tensor:
    with torch.autograd.graph.save_on_cpu():
        return model(torch.randn(3, 4)).square().mean()


def packed_by_the_user(model: nn.Module) -> torch.Tensor:
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: t.double(), lambda t: t.float())
    with hooks:
        return model(torch.randn(3, 4)).square().mean()


def in_anomaly_mode(model: nn.Module) -> torch.Tensor:
    with torch.autograd.detect_anomaly(check_nan=False):
        return model(torch.randn(3, 4)).square().mean()


def twice_backward(model: nn.Module) -> torch.Tensor:
    loss: torch.Tensor = model(torch.randn(3, 4)).square().mean()
    loss.backward(retain_graph=True)
    return loss * 0.5


def with_integers(model: nn.Module) -> torch.Tensor:
    return (
        model(torch.randint(-3, 4, (5, 4)).float()).argmax(1).float().mean()
        + model(torch.randint(-3, 4, (5, 4)).float()).square().mean()
    )


def half_precision(model: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", torch.float16):
        return model(torch.randn(4, 4)).float().square().mean()


CASES: dict[str, Case] = {
    "model output": (Answering, simple(3, 4)),
    "shared module": (Shared, simple(3, 4)),
    "function of the user": (Quantized, simple(3, 4)),
    "nested checkpoints": (Nested, lambda m: m(torch.randn(3, 4).requires_grad_()).square().mean()),
    "raising": (Raising, simple(3, 4)),
    "pruned": (pruned, simple(3, 4)),
    "hooks of the user": (with_hooks_of_the_user, simple(3, 4)),
    "offloaded": (mlp, offloaded),
    "saved tensor hooks": (mlp, packed_by_the_user),
    "anomaly mode": (mlp, in_anomaly_mode),
    "backward twice": (mlp, twice_backward),
    "integers": (mlp, with_integers),
    "fp16 autocast": (mlp, half_precision),
}


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_training_is_bit_identical(name: str) -> None:
    keep = name == "hooks of the user"
    sink = MemorySink()
    losses, weights = train(CASES[name], sink, own_hooks=keep)
    plain_losses, plain_weights = train(CASES[name], None, own_hooks=keep)
    assert all(torch.equal(a, b) for a, b in zip(losses, plain_losses, strict=True))
    assert all(torch.equal(weights[k], plain_weights[k]) for k in plain_weights)
    assert [s.step for s in sink.steps] == [0, 1, 2]
    assert {"activation", "weight", "weight_gradient"} <= {s.kind for s in sink.sites}


def test_a_model_output_is_observed_by_its_fields() -> None:
    sink = MemorySink()
    train(CASES["model output"], sink)
    assert sink.histogram("head", "activation").total == 3 * 1
    assert sink.histogram("head[1]", "activation").total == 3 * 6


def test_an_optimizer_inside_of_backward_trains_the_same_and_its_gradients_are_seen() -> None:
    def run(watched: bool) -> tuple[list[torch.Tensor], MemorySink]:
        torch.manual_seed(3)
        model, sink = mlp(), MemorySink()
        monitor = Monitor(model, None, sink) if watched else None
        optimizers = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}

        def update(parameter: torch.Tensor) -> None:
            optimizers[parameter].step()  # type: ignore[index]
            optimizers[parameter].zero_grad()  # type: ignore[index]

        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(update)
        losses = []
        for _ in range(3):
            loss = model(torch.randn(3, 4)).square().mean()
            loss.backward()
            losses.append(loss.detach())
        if monitor is not None:
            monitor.close()
        return [*losses, *(p.detach() for p in model.parameters())], sink

    (watched, sink), (plain, _) = run(True), run(False)
    assert all(torch.equal(a, b) for a, b in zip(watched, plain, strict=True))
    assert sink.histogram("0.weight", "weight_gradient").total == 3 * 32


def test_weights_in_one_call_are_counted_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from precscope import kernels

    def counts() -> MemorySink:
        sink = MemorySink()
        train((Shared, simple(3, 4)), sink)
        return sink

    def one_by_one(tensors: list[torch.Tensor], rows: list[torch.Tensor]) -> None:
        for tensor, row in zip(tensors, rows, strict=True):
            kernels.observe(tensor, row)

    together = counts()
    monkeypatch.setattr(kernels, "observe_many", one_by_one)
    monkeypatch.setattr(kernels, "observer_of_many", lambda rows: None)
    alone = counts()
    for name in together.names("weight"):
        one, other = (sink.histogram(name, "weight") for sink in (together, alone))
        assert (one.counts == other.counts).all()
        assert (one.powers == other.powers).all()
        assert (one.amax, one.sum_abs, one.sum_squares) == (
            *(other.amax, other.sum_abs, other.sum_squares),
        )
