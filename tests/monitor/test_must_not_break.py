"""Constructions that break other monitors: each trains the same, watched or not."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, rnn

import precscope
from precscope.monitor import Monitor
from tests.support.memory_sink import MemorySink

Step = Callable[[nn.Module], torch.Tensor]
Case = tuple[Callable[[], nn.Module], Step]


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


class Views(nn.Module):
    """A view of an output is changed in place, and outputs come as dict, tuple and dataclass."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 4), nn.Linear(8, 3)
        self.many = Many()

    def forward(self, x: torch.Tensor) -> Output:
        y = self.a(x)
        y[:, :4].relu_()
        left, right = y.chunk(2, 1)
        left = self.b(left)
        parts = self.many(left, right)
        joined = torch.cat([parts["sum"], parts["pair"][0].t().t()], 1)
        joined[:, ::2].mul_(0.5)
        return Output(self.c(joined), (left, right))


class Many(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
        return OrderedDict(sum=a + b, pair=(a * b, torch.arange(3)), none=None)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed = rnn.pack_padded_sequence(
            x, torch.tensor([4, 2, 3]), batch_first=True, enforce_sorted=False
        )
        out, hidden = self.gru(packed)
        padded, _ = rnn.pad_packed_sequence(out, batch_first=True)
        return self.head(padded.sum(1)) + hidden.mean()


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Fourier()
        self.filter = nn.Parameter(torch.randn(5, dtype=torch.complex64))
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.fft.irfft(self.inner(x) * self.filter, n=8))


class Fourier(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x)


class Parametrized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Linear(4, 6))
        self.b = parametrizations.spectral_norm(nn.Linear(6, 6))
        self.c = parametrizations.orthogonal(nn.Linear(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(self.a(x))))


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)
        self.body.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def of(output: Any) -> torch.Tensor:
    return output.logits if isinstance(output, Output) else output


def simple(*shape: int) -> Step:
    def step(model: nn.Module) -> torch.Tensor:
        return of(model(torch.randn(*shape))).square().mean()

    return step


def gradient_penalty(model: nn.Module) -> torch.Tensor:
    x = torch.randn(5, 4, requires_grad=True)
    score = model(x).sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    return score + (gradient.norm(2, dim=1) - 1).square().mean()


def per_sample(model: nn.Module) -> torch.Tensor:
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, values, (x,)).square().sum()

    x = torch.randn(3, 4)
    frozen = {k: v.detach() for k, v in parameters.items()}
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(frozen, x)
    scale = sum(g.abs().mean() for g in gradients.values())
    tangent: torch.Tensor = torch.func.jvp(lambda v: model(v), (x,), (torch.ones_like(x),))[1]
    return loss(parameters, x) * scale + tangent.square().sum()


def autocast(model: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(torch.randn(4, 4)).float().square().mean()


def words(model: nn.Module) -> torch.Tensor:
    return model(torch.randint(0, 9, (6,))).square().mean()


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyBatchNorm1d(), nn.LazyLinear(2))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def scripted() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 2))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 2))


CASES: dict[str, Case] = {
    "views, dicts and dataclasses": (Views, simple(5, 6)),
    "packed sequences": (Packed, simple(3, 4, 5)),
    "complex": (Complex, simple(3, 8)),
    "parametrized": (Parametrized, simple(3, 4)),
    "frozen": (Frozen, simple(3, 4)),
    "gradient penalty": (mlp, gradient_penalty),
    "torch.func": (mlp, per_sample),
    "autocast": (mlp, autocast),
    "lazy": (lazy, simple(6, 4)),
    "scripted": (scripted, simple(3, 4)),
    "encoder": (encoder, simple(2, 5, 8)),
    "float64": (lambda: mlp().double(), lambda m: m(torch.randn(3, 4).double()).square().mean()),
    "embedding bag": (lambda: nn.EmbeddingBag(9, 4, mode="sum"), lambda m: m(
        torch.randint(0, 9, (6,)), torch.tensor([0, 2])).square().mean()),
}  # fmt: skip


def train(
    case: Case, sink: MemorySink | None, own_hooks: bool = False
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    build, step = case
    torch.manual_seed(1)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    monitor = Monitor(model, optimizer, sink) if sink is not None else None
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = step(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    if not own_hooks:
        assert not any(m._forward_hooks for m in model.modules() if hasattr(m, "_forward_hooks"))
    return losses, model.state_dict()


@pytest.mark.filterwarnings("ignore:.*jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_training_is_bit_identical(name: str) -> None:
    sink = MemorySink()
    losses, weights = train(CASES[name], sink)
    plain_losses, plain_weights = train(CASES[name], None)
    assert all(torch.equal(a, b) for a, b in zip(losses, plain_losses, strict=True))
    assert all(torch.equal(weights[k], plain_weights[k]) for k in plain_weights)
    assert [s.step for s in sink.steps] == [0, 1, 2]
    assert {"weight", "weight_gradient"} <= {s.kind for s in sink.sites}
    assert sink.updates


def test_lazy_modules_are_observed_once_they_have_a_shape() -> None:
    sink = MemorySink()
    train(CASES["lazy"], sink)
    assert {"0.weight", "2.weight", "3.bias"} <= set(sink.names("weight_gradient"))
    assert not sink.documents["coverage"]["tensors_skipped"]


def test_packed_data_is_observed_and_the_batch_sizes_are_not() -> None:
    sink = MemorySink()
    train(CASES["packed sequences"], sink)
    assert sink.histogram("gru", "activation").total == 3 * 9 * 12
    assert sink.histogram("gru[1]", "activation").total == 3 * 4 * 3 * 6


def test_tensors_of_function_transforms_are_skipped_and_said() -> None:
    sink = MemorySink()
    train(CASES["torch.func"], sink)
    reasons = {t["reason"] for t in sink.documents["coverage"]["tensors_skipped"]}
    assert "inside a torch.func transform" in reasons
    assert sink.histogram("0", "activation").total == 3 * 3 * 8


def test_sparse_gradients_train_the_same() -> None:
    case: Case = (lambda: nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.ReLU()), words)
    sink, plain = train_sparse(case, True), train_sparse(case, False)
    assert torch.equal(sink, plain)


def train_sparse(case: Case, watched: bool) -> torch.Tensor:
    torch.manual_seed(2)
    model = case[0]()
    optimizer = torch.optim.SparseAdam(model.parameters(), 0.01)
    monitor = Monitor(model, optimizer, MemorySink()) if watched else None
    for _ in range(3):
        optimizer.zero_grad()
        case[1](model).backward()
        optimizer.step()
    if monitor is not None:
        monitor.close()
        assert not monitor.coverage()["observer_errors"]
    return model[0].weight.detach()  # type: ignore[index]


def watched_copies(model: nn.Module) -> list[nn.Module]:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ]


@pytest.mark.parametrize("optimizer", [True, False])
def test_a_watched_model_can_be_copied_and_its_copies_are_not_watched(optimizer: bool) -> None:
    model = encoder()
    sgd = torch.optim.SGD(model.parameters(), 0.1) if optimizer else None
    sink = MemorySink()
    with Monitor(model, sgd, sink) as monitor:
        model(torch.randn(2, 5, 8)).sum().backward()
        copies = watched_copies(model)
        if sgd is not None:
            copy.deepcopy(sgd)
            pickle.dumps(sgd)
        x = torch.randn(2, 5, 8)
        for other in copies:
            other.eval()(x).sum().backward()
            assert other.state_dict().keys() == model.state_dict().keys()
        monitor.flush()
    assert sink.histogram("1", "activation").total == 2 * 5 * 2
    assert not any("precscope" in str(pickle.dumps(c)) for c in copies)


def test_evaluation_takes_the_fast_path_and_gives_the_same_numbers() -> None:
    def run(watched: bool) -> list[torch.Tensor]:
        torch.manual_seed(4)
        model = encoder()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        monitor = Monitor(model, optimizer, MemorySink()) if watched else None
        seen = []
        for _ in range(2):
            model.train()(torch.randn(2, 5, 8)).sum().backward()
            optimizer.step()
            with torch.inference_mode():
                seen.append(model.eval()(torch.randn(2, 5, 8)))
        if monitor is not None:
            assert model[0].layers[0].linear1._forward_hooks  # type: ignore[index]
            monitor.close()
        return seen

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))


def test_a_dtype_change_and_new_storage_midway_are_followed() -> None:
    def run(watched: bool) -> tuple[list[torch.Tensor], MemorySink]:
        torch.manual_seed(4)
        model, sink = mlp(), MemorySink()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        monitor = Monitor(model, optimizer, sink) if watched else None
        losses = []
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float32):
            model.to(dtype)
            for parameter in model.parameters():
                parameter.data = parameter.data.clone()
            optimizer.zero_grad()
            loss = model(torch.randn(3, 4).to(dtype)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        if monitor is not None:
            monitor.close()
            assert not monitor.coverage()["observer_errors"]
        return losses, sink

    watched, sink = run(True)
    assert all(torch.equal(a, b) for a, b in zip(watched, run(False)[0], strict=True))
    assert sink.histogram("0.weight", "weight_gradient").total == 4 * 32
    assert sink.updates[0].steps == 4


def test_parameters_that_are_thawed_later_are_observed_from_then_on() -> None:
    model, sink = Frozen(), MemorySink()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Monitor(model, optimizer, sink):
        for step in range(4):
            model.body.requires_grad_(step >= 1)
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert sink.histogram("body.0.weight", "weight_gradient").total > 0


def test_meta_and_fake_tensors_are_skipped() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = mlp()
    with Monitor(model, None, MemorySink()) as monitor, FakeTensorMode(allow_non_fake_inputs=True):
        model(torch.randn(2, 4)).sum()
    coverage = monitor.coverage()
    assert not coverage["observer_errors"]
    assert coverage["modules_seen"] == 0


def exports_with_hooks(strict: bool) -> bool:
    """Whether this torch exports a model that carries hooks of anyone: 2.6 not when strict."""
    model = mlp().eval()
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
    try:
        torch.export.export(model, (torch.randn(2, 4),), strict=strict)
    except torch._dynamo.exc.UserError:
        return False
    return True


@pytest.mark.parametrize("strict", [False, True])
def test_tracing_and_exporting_a_watched_model_leaves_us_out(strict: bool) -> None:
    if strict and not exports_with_hooks(strict):
        pytest.skip("NOT RUN: this torch exports no model with hooks, whoever put them there")
    model = mlp().eval()
    with Monitor(model, None, MemorySink()):
        exported = torch.export.export(model, (torch.randn(2, 4),), strict=strict)
    assert "precscope" not in str(exported.graph)
    torch.export.export(model, (torch.randn(2, 4),), strict=True)


def test_a_functional_call_is_observed_like_any_other() -> None:
    model, sink = mlp(), MemorySink()
    with Monitor(model, None, sink):
        other = {k: v.detach().clone().requires_grad_() for k, v in model.named_parameters()}
        torch.func.functional_call(model, other, (torch.randn(2, 4),)).sum().backward()
    assert sink.histogram("0", "activation").total == 16
    assert sink.histogram("0", "activation_gradient").total == 16


def test_threads_that_train_one_model_at_once_lose_no_count() -> None:
    model, sink = mlp(), MemorySink()

    def work() -> None:
        for _ in range(40):
            model(torch.randn(3, 4)).sum().backward()

    with Monitor(model, torch.optim.SGD(model.parameters(), 0.1), sink):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sink.histogram("0", "activation").total == 3 * 40 * 24
    assert sink.histogram("2", "activation_gradient").total == 3 * 40 * 6


class Transforming(torch.utils.data.Dataset[torch.Tensor]):
    """Items that go through the watched model, in a worker process."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.model(torch.full((4,), float(index)).requires_grad_()).detach()


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_loader_workers_do_not_write_to_the_recording(context: str, tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with precscope.watch(model, optimizer, path=tmp_path / "run.precscope", every=1):
        for batch in torch.utils.data.DataLoader(
            Transforming(copy.deepcopy(model) if context == "spawn" else model),
            batch_size=2,
            num_workers=1,
            multiprocessing_context=context,
        ):
            assert torch.isfinite(batch).all()
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    recording = precscope.Recording.open(tmp_path / "run.precscope")
    assert recording.is_complete
    assert [s.step for s in recording.steps] == [0, 1]
    index = next(i for i, s in enumerate(recording.sites) if s.kind == "activation")
    assert recording.histogram(index).total == 2 * 6
