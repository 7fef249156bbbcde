"""The Lightning callback in real fits: nothing changes, every step is in the Recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

import precscope
from precscope.integrations.lightning import PrecscopeCallback
from tests.integrations.left_behind import hooks_of, same_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning:lightning.pytorch.utilities"),
    pytest.mark.filterwarnings("ignore:.*num_workers:UserWarning:lightning.pytorch.trainer"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors"),
]

Arguments = Callable[[], dict[str, Any]]


class Module(lightning.LightningModule):
    """A net with an in-place operation, dropout and an encoder; remembers its losses."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
        self.losses: list[torch.Tensor] = []
        self.validation: list[torch.Tensor] = []
        self.scales: list[float] = []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss: torch.Tensor = self.head(self.encoder(batch)).square().mean()
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            self.scales.append(scaler.get_scale())

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        padding = torch.zeros(batch.shape[:2], dtype=torch.bool)
        padding[0, 1:] = True
        with torch.autocast("cpu", enabled=False):  # the fused path takes no other dtype
            self.validation.append(self.encoder(batch, src_key_padding_mask=padding))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


class Stumbles(Module):
    """Raises in its fourth step."""

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if len(self.losses) == 3:
            raise ArithmeticError("no fourth step")
        return super().training_step(batch, index)


class Adversaries(Module):
    """Two optimizers, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        parts = (self.encoder, self.head)
        return [torch.optim.SGD(part.parameters(), 0.1) for part in parts]

    def training_step(self, batch: torch.Tensor, index: int) -> None:  # type: ignore[override]
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(self.head(self.encoder(batch)).square().mean())
            optimizer.step()


def new(kind: type[Module] = Module) -> Module:
    """A module that always starts from the same weights, before the same random numbers."""
    torch.manual_seed(0)
    return kind()


def trained(module: Module, *callbacks: PrecscopeCallback, **arguments: Any) -> Module:
    """The module after two epochs of six batches, with validation after each."""
    data: Any = torch.randn(12, 3, 4)
    trainer = lightning.Trainer(
        callbacks=list(callbacks), max_epochs=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, **arguments,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, 2, shuffle=True), DataLoader(data, 4))
    return module


def in_half() -> dict[str, Any]:
    """FP16 autocast on CPU with a scale that overflows from time to time."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=3)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


ARGUMENTS: dict[str, tuple[Arguments, int]] = {
    "float32": (dict, 12),
    "gradients accumulated and clipped": (
        lambda: {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
        6,
    ),
    "bfloat16": (lambda: {"precision": "bf16-mixed"}, 12),
    "float16 with a scaler": (in_half, 12),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_watched_fit_is_the_same_fit(name: str, tmp_path: Path) -> None:
    arguments, steps = ARGUMENTS[name]
    path = tmp_path / "run.precscope"
    plain = trained(new(), **arguments())
    watched = trained(new(), PrecscopeCallback(path, every=1), **arguments())
    assert same_weights(plain, watched)
    assert all(map(torch.equal, plain.losses, watched.losses))
    assert all(map(torch.equal, plain.validation, watched.validation))
    assert not hooks_of(watched)
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert [record.step for record in recording.steps] == list(range(steps))
    assert recording.document("coverage")["observer_errors"] == []


def test_the_loss_of_a_step_is_the_mean_over_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    callback = PrecscopeCallback(path, every=1)
    module = trained(new(), callback, accumulate_grad_batches=2)
    pairs = torch.stack(module.losses).view(-1, 2).mean(1)
    losses = [record.loss for record in precscope.Recording.open(path).steps]
    assert losses == pytest.approx(pairs.tolist(), rel=1e-6)


def test_the_loss_scale_is_taken_off_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    module = trained(new(), PrecscopeCallback(path, every=1), **in_half())
    steps = precscope.Recording.open(path).steps
    assert [2.0**record.log2_scale for record in steps] == module.scales
    assert len(set(module.scales)) > 1
    assert [record.loss for record in steps] == [float(loss) for loss in module.losses]


def test_an_exception_closes_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    module = new(Stumbles)
    with pytest.raises(ArithmeticError, match="no fourth step"):
        trained(module, PrecscopeCallback(path, every=1))
    assert not hooks_of(module)
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert [record.step for record in recording.steps][:3] == [0, 1, 2]


def test_optimizers_stepped_by_hand_end_one_step_together(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    plain = trained(new(Adversaries))
    watched = trained(new(Adversaries), PrecscopeCallback(path, every=1))
    assert same_weights(plain, watched)
    assert len(precscope.Recording.open(path).steps) == 12


def test_a_second_fit_has_a_recording_of_its_own(tmp_path: Path) -> None:
    callback = PrecscopeCallback(tmp_path / "run.precscope", every=2)
    trained(new(), callback)
    trained(new(), callback, max_steps=4)
    steps = [
        len(precscope.Recording.open(tmp_path / name).steps)
        for name in ("run.precscope", "run-2.precscope")
    ]
    assert steps == [6, 2]
