"""Every recipe trains on CUDA, on the arithmetic that it says, and leaves no setting behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from precscope.recipe.named import RECIPES
from precscope.timing.kernel_rules import classify
from precscope.timing.profiling import traced
from precscope.timing.stepping import stepping
from precscope.training.cuda_precision import switches
from precscope.training.run import train
from tests.support.small_workload import small_workload

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda:0")
WIDE = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))

def batches():
    while True:
        yield torch.randn(256, 512)

def loss(model, batch):
    return (model(batch) - batch).square().mean()
"""
CONVOLUTION = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1))

def batches():
    while True:
        yield torch.randn(16, 32, 28, 28)

def loss(model, batch):
    return (model(batch) - batch).square().mean()
"""


def current() -> dict[str, Any]:
    return {name: getattr(owner, key) for name, (owner, key) in switches().items()}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_restores_every_switch(name: str, tmp_path: Path) -> None:
    before = current()
    run = train(small_workload(tmp_path), name, steps=6, seed=0, device="cuda:0")
    assert current() == before
    assert run.steps == 6
    assert run.simulated is False
    assert run.diverged_at is None
    assert run.peak_memory_bytes


def tensor_core_kernels(name: str, text: str, folder: Path) -> list[str]:
    workload = small_workload(folder, text)
    with stepping(workload, RECIPES[name], CUDA, 0) as stepper:
        stepper.step()
        trace = traced(stepper.model, stepper.step, 1)
    assert trace.device, "the profiler saw no kernel"
    return [e.name for e in trace.device if classify(e.name).tensor_cores == "yes"]


@pytest.mark.parametrize("text", [WIDE, CONVOLUTION], ids=["products", "convolutions"])
def test_float32_uses_no_tensor_cores(text: str, tmp_path: Path) -> None:
    assert tensor_core_kernels("fp32", text, tmp_path) == []


@pytest.mark.parametrize("text", [WIDE, CONVOLUTION], ids=["products", "convolutions"])
@pytest.mark.parametrize("name", ["tf32", "bf16", "fp16", "paper", "paper-no-master"])
def test_the_others_use_them(name: str, text: str, tmp_path: Path) -> None:
    assert tensor_core_kernels(name, text, tmp_path)
