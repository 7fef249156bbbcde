"""Memory of each recipe in closed form: weights, gradients, optimizer state, activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from precscope.training import TrainingRun, train
from precscope.training.memory_table import memory_table

BATCH, WIDTH, HIDDEN, DEPTH, CLASSES = 64, 16, 32, 4, 4
LAYERS = [(WIDTH, HIDDEN), *[(HIDDEN, HIDDEN)] * DEPTH, (HIDDEN, CLASSES)]
WEIGHTS = sum(i * o for i, o in LAYERS)
PARAMETERS = WEIGHTS + sum(o for _, o in LAYERS)


class Session:
    """A multilayer perceptron with Adam, whose loss is the mean square of its output."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in LAYERS:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.model: nn.Module = nn.Sequential(*layers[:-1])
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.model.parameters())

    def batches(self) -> Any:
        while True:
            yield torch.randn(BATCH, WIDTH)

    def loss(self, batch: Any) -> torch.Tensor:
        out = self.model(batch)
        return F.mse_loss(out, torch.zeros_like(out))

    def evaluate(self) -> dict[str, float]:
        return {}


class Workload:
    def session(self, seed: int, device: str) -> Session:
        torch.manual_seed(seed)
        session = Session()
        session.model.to(device)
        return session


def run_of(recipe: str) -> TrainingRun:
    return train(Workload(), recipe, steps=2, seed=0)


# Each layer saves its input; ReLU saves its output, which is the input of the next layer; the
# loss saves its two arguments, in float32.
INPUTS = BATCH * sum(i for i, _ in LAYERS)
OF_LOSS = 2 * BATCH * CLASSES

SAVED = {
    "fp32": 4 * (INPUTS + OF_LOSS),
    # Autocast saves the float16 copy that it makes of each weight, too, but of the first: that
    # one is for the gradient of the batch, which nobody wants.
    "fp16": 2 * (INPUTS + WEIGHTS - WIDTH * HIDDEN) + 4 * OF_LOSS,
    "paper": 2 * INPUTS + 4 * OF_LOSS,
}
WEIGHT_BYTES = {
    "fp32": 4,
    "bf16": 4,
    "fp16": 4,
    "paper": 6,
    "paper-fp16-accumulation": 6,
    "paper-no-scaling": 6,
    "paper-kahan": 4,
    "paper-no-master": 2,
    "paper-stochastic-rounding": 2,
}


@pytest.mark.parametrize("recipe", WEIGHT_BYTES)
def test_weights_gradients_and_states_in_closed_form(recipe: str) -> None:
    run = run_of(recipe)
    assert run.weight_bytes == WEIGHT_BYTES[recipe] * PARAMETERS
    assert run.gradient_bytes == (2 if recipe.startswith("paper") else 4) * PARAMETERS
    steps = 4 * 2 * len(LAYERS)  # Adam counts the steps of each tensor in a float32 of its own
    assert run.optimizer_bytes == 2 * 4 * PARAMETERS + steps


@pytest.mark.parametrize(
    ("recipe", "like"),
    [(name, name) for name in SAVED]
    + [("bf16", "fp16"), ("paper-kahan", "paper"), ("paper-fp16-accumulation", "paper")],
)
def test_saved_activations_in_closed_form(recipe: str, like: str) -> None:
    assert run_of(recipe).saved_tensor_bytes == SAVED[like]


def test_the_table_compares_each_part_with_fp32() -> None:
    single, paper = memory_table([run_of(name).to_dict() for name in ("fp32", "paper")])
    assert single.total_ratio == 1.0
    assert not single.is_roughly_half
    assert paper.part_ratio["weight_bytes"] == 1.5
    assert paper.part_ratio["gradient_bytes"] == 0.5
    assert paper.part_ratio["optimizer_bytes"] == 1.0
    assert paper.part_ratio["saved_tensor_bytes"] == pytest.approx(0.5, abs=0.03)
    assert paper.total_bytes == sum(size for size in paper.part_bytes.values() if size)
    assert paper.peak_ratio is None


def made_up(recipe: str, activations: int | None, peak: int | None = None) -> dict[str, Any]:
    sizes = {"weight_bytes": 4, "gradient_bytes": 4, "optimizer_bytes": 8}
    return {
        "recipe": recipe,
        **sizes,
        "saved_tensor_bytes": activations,
        "peak_memory_bytes": peak,
    }


def test_where_activations_dominate_the_total_is_roughly_half() -> None:
    rows = memory_table([made_up("fp32", 10_000, 800), made_up("paper", 5_000, 420)])
    assert [row.is_roughly_half for row in rows] == [False, True]
    assert rows[1].peak_ratio == pytest.approx(0.525)


def test_what_was_not_measured_has_no_ratio() -> None:
    (alone,) = memory_table([made_up("paper", 10)])
    assert (alone.total_bytes, alone.total_ratio) == (26, None)
    rows = memory_table([made_up("fp32", None), made_up("paper", 10)])
    assert rows[1].total_ratio is None
    assert rows[1].part_ratio["weight_bytes"] == 1.0
    assert memory_table([]) == []


@pytest.mark.gpu
def test_peak_memory_on_cuda_covers_what_is_kept() -> None:
    runs = {name: train(Workload(), name, 3, 0, "cuda") for name in ("fp32", "paper")}
    for run in runs.values():
        assert run.peak_memory_bytes is not None
        assert run.saved_tensor_bytes is not None
        kept = run.weight_bytes + run.optimizer_bytes + run.gradient_bytes
        assert run.peak_memory_bytes >= kept
        assert run.peak_memory_reason is None
