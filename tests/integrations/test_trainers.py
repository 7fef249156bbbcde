"""The callbacks of Lightning and Transformers, against the libraries where they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import precscope
from precscope.integrations.unwrapping import bare_model, bare_optimizer


def test_wrappers_are_taken_off() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert bare_model(nn.DataParallel(model)) is model
    assert bare_model(torch.compile(nn.DataParallel(model), backend="eager")) is model  # type: ignore[arg-type]
    assert bare_optimizer(SimpleNamespace(optimizer=optimizer)) is optimizer
    assert bare_optimizer(optimizer) is optimizer


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_fit_is_recorded(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from precscope.integrations.lightning import PrecscopeCallback

    class Module(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.layer(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    path = tmp_path / "run.precscope"
    data: Any = torch.utils.data.DataLoader(torch.randn(12, 4), batch_size=4)  # type: ignore[arg-type]
    trainer = lightning.Trainer(
        callbacks=[PrecscopeCallback(path, every=1)], max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Module(), data)
    recording = precscope.Recording.open(path)
    assert [s.step for s in recording.steps] == [0, 1, 2]
    assert all(s.loss is not None for s in recording.steps)


@pytest.mark.filterwarnings("ignore")
def test_a_transformers_training_is_recorded(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from precscope.integrations.transformers import PrecscopeCallback

    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    tokens = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(6)]
    path = tmp_path / "run.precscope"
    arguments = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, num_train_epochs=1, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(
        transformers.GPT2LMHeadModel(config), arguments, train_dataset=tokens,
        callbacks=[PrecscopeCallback(path, every=1)],
    ).train()  # fmt: skip
    assert [s.step for s in precscope.Recording.open(path).steps] == [0, 1, 2]
