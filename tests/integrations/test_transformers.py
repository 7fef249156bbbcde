"""The Transformers callback in real trainings: nothing changes, every step is recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
import transformers
from torch import nn

import precscope
from precscope.integrations.transformers import PrecscopeCallback
from tests.integrations.left_behind import hooks_of, same_weights

CONFIGURATION = transformers.GPT2Config(
    n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
)
ARGUMENTS: dict[str, tuple[dict[str, Any], int]] = {
    "float32": ({}, 12),
    "gradients accumulated and clipped": (
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.05},
        6,
    ),
    "bfloat16 and a cosine schedule": ({"bf16": True, "lr_scheduler_type": "cosine"}, 12),
    "neftune noise": ({"neftune_noise_alpha": 5.0}, 12),
}


class Stumbles(transformers.GPT2LMHeadModel):  # type: ignore[no-untyped-call]
    """Raises in its fourth training pass."""

    passes = 0

    def forward(self, input_ids: Any = None, labels: Any = None, **named: Any) -> Any:
        self.passes += self.training
        if self.passes == 4:
            raise ArithmeticError("no fourth pass")
        return super().forward(input_ids=input_ids, labels=labels, **named)


def trainer(
    folder: Path,
    *callbacks: PrecscopeCallback,
    kind: type[nn.Module] = transformers.GPT2LMHeadModel,
    **arguments: Any,
) -> Any:
    """Two epochs of six batches, with an evaluation after each."""
    torch.manual_seed(0)
    tokens = [torch.arange(8) * row % 16 for row in range(12)]
    data: Any = [{"input_ids": row, "labels": row} for row in tokens]
    chosen = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=2, num_train_epochs=2, report_to=[],
        save_strategy="no", eval_strategy="epoch", use_cpu=True, disable_tqdm=True,
        logging_steps=1, **arguments,
    )  # fmt: skip
    return transformers.Trainer(
        kind(CONFIGURATION),
        chosen,
        train_dataset=data,
        eval_dataset=data,
        callbacks=list(callbacks),
    )


def logged(found: Any, name: str) -> list[float]:
    """What the trainer itself logged under a name."""
    return [entry[name] for entry in found.state.log_history if name in entry]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_watched_training_is_the_same_training(name: str, tmp_path: Path) -> None:
    arguments, steps = ARGUMENTS[name]
    path = tmp_path / "run.precscope"
    plain = trainer(tmp_path, **arguments)
    plain.train()
    watched = trainer(tmp_path, PrecscopeCallback(path, every=1), **arguments)
    watched.train()
    assert same_weights(plain.model, watched.model)
    for what in ("loss", "grad_norm", "eval_loss"):
        assert logged(plain, what) == logged(watched, what)
    assert not hooks_of(watched.model, [watched.optimizer.optimizer])
    assert "training_step" not in vars(watched)
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert [record.step for record in recording.steps] == list(range(steps))
    assert recording.document("coverage")["observer_errors"] == []


@pytest.mark.parametrize("name", ["float32", "gradients accumulated and clipped"])
def test_each_step_has_the_loss_that_the_trainer_logs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    watched = trainer(tmp_path, PrecscopeCallback(path, every=1), **ARGUMENTS[name][0])
    watched.train()
    losses = [record.loss for record in precscope.Recording.open(path).steps]
    assert losses == pytest.approx(logged(watched, "loss"), rel=1e-6)


def test_an_exception_closes_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.precscope"
    watched = trainer(tmp_path, PrecscopeCallback(path, every=1), kind=Stumbles)
    with pytest.raises(ArithmeticError, match="no fourth pass"):
        watched.train()
    assert not hooks_of(watched.model, [watched.optimizer.optimizer])
    assert "training_step" not in vars(watched)
    recording = precscope.Recording.open(path)
    assert recording.is_complete
    assert [record.step for record in recording.steps][:3] == [0, 1, 2]


def test_leaving_the_callback_closes_what_an_exception_elsewhere_left_open(tmp_path: Path) -> None:
    class Objects(transformers.TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            raise ArithmeticError("not after a step")

    path = tmp_path / "run.precscope"
    callback = PrecscopeCallback(path, every=1)
    watched = trainer(tmp_path, callback)
    watched.add_callback(Objects())
    with pytest.raises(ArithmeticError, match="not after a step"), callback:
        watched.train()
    assert callback.watch is None
    assert not hooks_of(watched.model)
    assert precscope.Recording.open(path).is_complete


def test_a_second_training_has_a_recording_of_its_own(tmp_path: Path) -> None:
    watched = trainer(tmp_path, PrecscopeCallback(tmp_path / "run.precscope", every=3))
    watched.train()
    watched.train()
    for name in ("run.precscope", "run-2.precscope"):
        assert [s.step for s in precscope.Recording.open(tmp_path / name).steps] == [0, 3, 6, 9]
