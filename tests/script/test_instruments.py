"""The instruments of a script's process, in this one: exact, and gone afterwards."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from precscope.recipe import LossScaling, Recipe
from precscope.recording import Recording
from precscope.script.discovery import Discovery, Root
from precscope.script.job import EventReader
from precscope.script.stop import MAX_RAISED, StopRule
from tests.script.watched import net, watching

FP16 = Recipe(
    "scaled",
    compute_dtype="float16",
    loss_scaling=LossScaling(kind="static", log2_initial=10),
    scaler="precscope",
)


def train(model: nn.Module, steps: int, parts: int = 1) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(parts):
            loss = model(torch.randn(6, 4, generator=generator)).square().mean() / parts
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_an_observed_loop_is_bit_identical_and_nothing_is_left(tmp_path: Path) -> None:
    plain, watched = net(), net()
    expected = train(plain, 5)
    with watching(tmp_path), pytest.raises(SystemExit):
        train(watched, 5)
    assert len(Recording.open(tmp_path / "run.precscope").steps) == 3
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())
    (tmp_path / "again").mkdir()
    again = net()
    with watching(tmp_path / "again", steps=6):
        assert train(again, 5) == expected
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), again.parameters(), strict=True)
    )


def test_gradients_are_true_for_the_script_at_any_loss_scale(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    unscaled = Recipe("unscaled", compute_dtype="float16")
    for number, recipe in enumerate((unscaled, FP16)):
        (tmp_path / str(number)).mkdir()
        model = net()
        with watching(tmp_path / str(number), recipe, steps=9):
            train(model, 1, parts=3)
        gradient = model.get_parameter("2.weight").grad
        assert gradient is not None
        seen.append(gradient.clone())
    assert torch.allclose(seen[0], seen[1], rtol=5e-3)
    assert not torch.equal(seen[0], torch.zeros_like(seen[0]))


def test_modules_of_the_recipe_stay_in_float32(tmp_path: Path) -> None:
    model = net()
    dtypes: dict[str, torch.dtype] = {}
    for name in ("0", "2"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda m, i, o, name=name: dtypes.update({name: o.dtype}))
    with watching(tmp_path, FP16.keeping_fp32("2"), steps=2), pytest.raises(SystemExit):
        train(model, 3)
    assert dtypes == {"0": torch.float16, "2": torch.float32}
    assert [e["loss"] for e in EventReader(tmp_path / "events") if e["event"] == "step"]


def test_the_cast_weights_of_an_earlier_step_are_not_used_again(tmp_path: Path) -> None:
    expected = train(net(), 6)
    model = net()
    with watching(tmp_path, Recipe("half", compute_dtype="bfloat16"), steps=9):
        losses = train(model, 6)
    assert losses == pytest.approx(expected, rel=0.05)
    assert losses[-1] < 0.7 * losses[0]


def test_a_stop_is_raised_a_few_times_and_then_left_alone() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    rule, done = StopRule(2), []
    for _ in range(2):
        rule.took(optimizer)
        done.append(rule.is_done)
    assert done == [False, True]
    assert rule.is_beyond(optimizer)
    for _ in range(MAX_RAISED):
        with pytest.raises(SystemExit):
            rule.stop()
    rule.stop()


def test_a_second_optimizer_that_steps_rarely_does_not_hold_up_the_end() -> None:
    often, rarely = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1) for _ in range(2))
    rule = StopRule(3)
    rule.took(often)
    rule.took(rarely)
    rule.took(often)
    rule.took(often)
    assert not rule.is_done
    assert rule.is_beyond(often)
    assert not rule.is_beyond(rarely)


def test_a_frozen_model_and_one_without_an_optimizer_are_no_roots() -> None:
    gc.freeze()
    discovery = Discovery()
    free, trained = net(), net()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    assert discovery.called(net().requires_grad_(False)) is None
    assert discovery.called(free) is None
    with torch.no_grad():
        assert discovery.called(trained) is None
    root: Any = discovery.called(trained)
    assert isinstance(root, Root)
    assert (root.name, root.optimizers) == ("", [optimizer])
    assert discovery.called(trained[0]) is None
    gc.unfreeze()
