from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from precscope.errors import UsageError
from precscope.training import LossScaling, MixedPrecision, Recipe, train
from tests.training.small_net import PAPER, static
from tests.training.two_optimizers import (
    NAMES,
    Gan,
    Run,
    draw_loss,
    gan,
    optimizers,
    plain_step,
    real,
    step,
)

RESTLESS = LossScaling(kind="dynamic", log2_initial=18, growth_interval=2)
RECIPES: dict[str, Recipe] = {
    "fp32": Recipe.named("fp32"),
    "fp16": replace(Recipe.named("fp16"), loss_scaling=RESTLESS),
    "paper": replace(PAPER, loss_scaling=RESTLESS),
    "no-scaling": Recipe.named("paper-no-scaling"),
    "no-master": Recipe.named("paper-no-master"),
    "stochastic": Recipe.named("paper-stochastic-rounding"),
    "kahan": Recipe.named("paper-kahan"),
    "accumulation": Recipe.named("paper-fp16-accumulation"),
}


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_fp32_is_bit_identical_to_a_plain_loop() -> None:
    run = Run("fp32")
    run.train(0, 6)
    plain = gan()
    held = optimizers(plain)
    losses = [plain_step(plain, real(number), held) for number in range(6)]
    assert run.losses == losses
    assert same(weights(run.model), weights(plain))


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_stopped_and_resumed_is_bit_identical(name: str) -> None:
    whole = Run(RECIPES[name])
    whole.train(0, 5)
    file = io.BytesIO()
    parts = {"model": whole.model.state_dict(), "trainer": whole.trainer.state_dict()}
    torch.save({**parts, "random": torch.get_rng_state()}, file)
    whole.train(5, 11)
    file.seek(0)
    resumed = Run(RECIPES[name], seed=9)
    saved = torch.load(file, weights_only=True)
    resumed.model.load_state_dict(saved["model"])
    resumed.trainer.load_state_dict(saved["trainer"])
    torch.set_rng_state(saved["random"])
    resumed.train(5, 11)
    assert resumed.losses == whole.losses[5:]
    assert same(weights(resumed.model), weights(whole.model))
    assert same(resumed.trainer.parameters(), whole.trainer.parameters())
    assert resumed.trainer.scale_changes == whole.trainer.scale_changes
    assert resumed.trainer.skipped_steps == whole.trainer.skipped_steps
    if name in ("fp16", "paper"):
        assert whole.trainer.skipped_steps > 0


@pytest.mark.parametrize("name", ["fp16", "paper"])
def test_an_optimizer_that_overflows_skips_alone(name: str) -> None:
    run = Run(replace(RECIPES[name], loss_scaling=LossScaling("dynamic", 8)))
    model, trainer = run.model, run.trainer
    before = weights(model.discriminator), weights(model.generator)
    parameters = [p.detach().clone() for p in model.generator.parameters()]
    noise = torch.randn(16, 4)
    with trainer.autocast():
        loss = draw_loss(model, noise) * torch.inf
    assert not trainer.step(loss, optimizer="generator")
    assert trainer.log2_scale == 8
    assert same(weights(model.generator), before[1]), "running statistics too"
    with trainer.autocast():
        loss = draw_loss(model, noise)
    assert trainer.step(loss, optimizer="discriminator")
    assert same(list(model.generator.parameters()), parameters)
    assert not same(weights(model.discriminator), before[0])
    assert trainer.log2_scale == 7, "one update of the scale for the whole step"
    assert trainer.skipped_steps == 1
    assert (trainer.overflowed or "").startswith("generator.")
    assert [change.parameter for change in trainer.scale_changes] == [trainer.overflowed]


@pytest.mark.parametrize("name", ["fp16", "paper"])
def test_the_scale_grows_once_per_step(name: str) -> None:
    scaling = LossScaling(kind="dynamic", log2_initial=4, growth_interval=3)
    run = Run(replace(RECIPES[name], loss_scaling=scaling))
    run.train(0, 9)
    assert [change.step for change in run.trainer.scale_changes] == [2, 5, 8]


def test_a_loss_gives_no_gradient_to_the_parameters_of_another_optimizer() -> None:
    run = Run(static(0))
    with run.trainer.autocast():
        loss = draw_loss(run.model, torch.randn(16, 4))
    run.trainer.backward(loss, optimizer="generator")
    assert all(p.grad is None for p in run.model.discriminator.parameters())
    assert all(p.grad is not None for p in run.model.generator.parameters())
    run.trainer.update("generator")


def test_gradients_of_one_optimizer_wait_while_another_is_updated() -> None:
    run = Run(static(3))
    model, trainer = run.model, run.trainer
    noise = torch.randn(16, 4)
    with trainer.autocast():
        loss = draw_loss(model, noise)
    trainer.backward(loss, optimizer="generator", retain_graph=True)
    trainer.step(loss, optimizer="discriminator")
    gradients = [p.grad for p in model.generator.parameters()]
    assert all(grad is not None for grad in gradients)
    trainer.unscale("generator")
    assert all(p.grad is not None for p in trainer.parameters("generator"))
    assert trainer.update("generator")


def test_without_a_name_a_loss_moves_the_parameters_of_all() -> None:
    run = Run("fp32")
    before = [p.detach().clone() for p in run.trainer.parameters()]
    assert run.trainer.step(draw_loss(run.model, torch.randn(16, 4)))
    moved = [not torch.equal(a, b) for a, b in zip(before, run.trainer.parameters(), strict=True)]
    discriminator = len(list(run.model.discriminator.parameters()))
    assert any(moved[:discriminator])
    assert any(moved[discriminator:])


@pytest.mark.parametrize("name", ["fp32", "fp16", "paper"])
def test_five_steps_of_one_to_one_of_the_other(name: str) -> None:
    run = Run(RECIPES[name])
    trainer = run.trainer
    for turn in range(12):
        which = NAMES[turn % 6 == 5]
        with trainer.autocast():
            loss = draw_loss(run.model, torch.randn(16, 4))
        trainer.step(loss, optimizer=which)
    trainer.end_step()
    trainer.end_step()
    assert trainer.state_dict()["skipped_steps"] == trainer.skipped_steps


def test_the_optimizers_hold_the_models_parameters_again_after_close() -> None:
    run = Run("paper")
    run.train(0, 2)
    assert {p.dtype for p in run.model.discriminator.parameters()} == {torch.float16}
    run.trainer.close()
    held = {id(p) for one in run.held.values() for g in one.param_groups for p in g["params"]}
    assert held == {id(p) for p in run.model.parameters()}
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_a_weight_of_no_optimizer_is_float16_and_keeps_still() -> None:
    model = gan()
    held = {"generator": optimizers(model)["generator"]}
    before = weights(model.discriminator)
    with MixedPrecision(model, held, static(0)) as trainer:
        with trainer.autocast():
            loss = draw_loss(model, torch.randn(16, 4))
        trainer.step(loss, optimizer="generator")
        assert {p.dtype for p in model.discriminator.parameters()} == {torch.float16}
    assert same(weights(model.discriminator), [value.half().float() for value in before])


def test_mistakes_are_told_in_one_line() -> None:
    model = gan()
    held = optimizers(model)
    twice = {**held, "again": torch.optim.SGD(model.generator.parameters(), lr=0.1)}
    with pytest.raises(UsageError, match="'generator' and 'again' hold the same parameter"):
        MixedPrecision(model, twice)
    with pytest.raises(UsageError, match="no optimizer: pass one"):
        MixedPrecision(model, {})
    with MixedPrecision(model, held, "fp32") as trainer:
        loss = draw_loss(model, torch.randn(16, 4))
        with pytest.raises(UsageError, match="choose one of discriminator, generator"):
            trainer.step(loss, optimizer="judge")
        trainer.backward(loss, optimizer="generator", retain_graph=True)
        with pytest.raises(UsageError, match=r"update\(optimizer='generator'\) first"):
            trainer.end_step()
        trainer.update("generator")
        with pytest.raises(UsageError, match=r"call end_step\(\) first"):
            trainer.state_dict()
    with (
        MixedPrecision(model.generator, held["generator"], "fp32") as trainer,
        pytest.raises(UsageError, match="without a name: leave it out"),
    ):
        trainer.parameters("generator")


def state(names: tuple[str, ...]) -> Any:
    model = gan()
    held = {f"my {name}" if names == () else name: o for name, o in optimizers(model).items()}
    with MixedPrecision(model, held, "paper") as trainer:
        return trainer.state_dict()


def test_a_state_of_other_optimizers_is_refused_in_one_line() -> None:
    run = Run("paper")
    with pytest.raises(UsageError, match="my discriminator, my generator"):
        run.trainer.load_state_dict(state(()))
    model = gan()
    single = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        MixedPrecision(model, single, "paper") as trainer,
        pytest.raises(
            UsageError, match=r"\(discriminator, generator\) than this trainer's \(one\)"
        ),
    ):
        trainer.load_state_dict(state(NAMES))
    damaged = state(NAMES)
    damaged["optimizer_type"]["generator"] = "Adagrad"
    with pytest.raises(UsageError, match="Adagrad"):
        run.trainer.load_state_dict(damaged)


class Session:
    """What ``train`` asks of a session that takes its steps itself."""

    def __init__(self, seed: int) -> None:
        gan_ = gan(seed)
        self.model: torch.nn.Module = gan_
        self.optimizers = optimizers(gan_)
        self.optimizer: torch.optim.Optimizer = self.optimizers["generator"]

    def batches(self) -> Iterator[torch.Tensor]:
        number = 0
        while True:
            yield real(number)
            number += 1

    def loss(self, batch: Any) -> torch.Tensor:
        raise AssertionError("train takes no loss of a session that takes steps")

    def step(self, batch: torch.Tensor, trainer: Any) -> dict[str, torch.Tensor]:
        assert isinstance(self.model, Gan)
        return step(self.model, batch, trainer)

    def evaluate(self) -> dict[str, float]:
        return {
            "mean": float(self.model.get_submodule("generator")(torch.ones(2, 4)).detach().mean())
        }


class Workload:
    def session(self, seed: int, device: str) -> Session:
        return Session(seed)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "paper"])
def test_train_keeps_each_loss_and_their_sum(recipe: str) -> None:
    run = train(Workload(), recipe, steps=20, seed=0)
    assert list(run.loss_parts) == list(NAMES)
    sums = [a + b for a, b in zip(*run.loss_parts.values(), strict=True)]
    assert list(run.losses) == pytest.approx(sums)
    assert run.steps == 20
    assert run.diverged_at is None
    assert run.skipped_steps == len(run.skipped_at) == len(run.skipped_for)
    assert run.to_dict()["loss_parts"]["generator"] == list(run.loss_parts["generator"])
    assert set(run.metrics) == {"mean"}
    if recipe == "fp32":
        other = Run("fp32")
        other.train(0, 20)
        assert [list(pair) for pair in zip(*run.loss_parts.values(), strict=True)] == other.losses


def test_memory_of_several_optimizers() -> None:
    single, half = (train(Workload(), name, 3, 0) for name in ("fp32", "paper"))
    model = Gan()
    sizes = [
        sum(p.numel() for p in part.parameters()) for part in (model.discriminator, model.generator)
    ]
    assert single.weight_bytes == 4 * sum(sizes)
    assert single.gradient_bytes == 4 * max(sizes), "never both at once"
    norm = sum(p.numel() for p in model.generator[1].parameters())
    assert half.weight_bytes == 6 * sum(sizes) - 2 * norm
    assert half.optimizer_bytes == single.optimizer_bytes >= 4 * (2 * sizes[0] + sizes[1])
    assert half.saved_tensor_bytes is not None
    assert single.saved_tensor_bytes is not None
    assert half.saved_tensor_bytes < single.saved_tensor_bytes
