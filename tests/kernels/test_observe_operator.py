"""The operator stays in a compiled graph: every call counted, one graph, nothing changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from precscope.kernels import new_rows, observe, row
from precscope.kernels.operator import observe_operator
from precscope.monitor.compiled import WORKS

ROOT = Path(__file__).parents[2]


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.ReLU(inplace=True), torch.nn.Linear(16, 4)
    )


def add_hooks(model: torch.nn.Sequential) -> tuple[torch.Tensor, torch.Tensor]:
    activations, gradients = new_rows(len(model)), new_rows(len(model))

    def hook_for(place: int) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            observe(output, activations[place])
            output.register_hook(lambda gradient: observe(gradient, gradients[place]))

        return hook

    for place, module in enumerate(model):
        module.register_forward_hook(hook_for(place))
    return activations, gradients


def train(model: Any, parameters: list[torch.nn.Parameter], steps: int = 3) -> list[float]:
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    losses = []
    for step in range(steps):
        batch = torch.randn(5, 8, generator=torch.Generator().manual_seed(step))
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.skipif(not WORKS, reason="NOT RUN: torch 2.13 and later compile such hooks")
def test_hooks_in_a_compiled_model_count_every_value_in_one_graph() -> None:
    torch._dynamo.reset()
    eager, plain = network(), network()
    expected = add_hooks(eager)
    eager_losses = train(eager, list(eager.parameters()))
    model = network()
    actual = add_hooks(model)
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    losses = train(compiled, list(model.parameters()))
    assert losses == eager_losses == train(plain, list(plain.parameters()))
    assert backend.frame_count == 1
    for compiled_rows, eager_rows in zip(actual, expected, strict=True):
        assert (compiled_rows[:, row.OBSERVATIONS] == 3).all()
        assert torch.equal(compiled_rows, eager_rows)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(7, 3),
        torch.randn(7, 3, requires_grad=True),
        torch.randn(3, 7).t(),
        torch.randn(6).to(torch.bfloat16),
        torch.empty(0),
    ],
    ids=["plain", "requires_grad", "transposed", "bfloat16", "empty"],
)
def test_the_operator_keeps_the_rules_of_operators(tensor: torch.Tensor) -> None:
    outcome = torch.library.opcheck(observe_operator, (tensor, new_rows(1)[0]))
    assert set(outcome.values()) == {"SUCCESS"}


def test_the_schema_says_what_is_mutated() -> None:
    schema = str(torch.ops.precscope_v1.observe.default._schema)
    assert schema == "precscope_v1::observe(Tensor tensor, Tensor(a1!) row) -> ()"


IMPORT_CHECK = """
import sys
import precscope.kernels
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"numba", "llvmlite", "triton"}))
"""


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_kernels_does_not_import_the_compiler() -> None:
    assert run_python(IMPORT_CHECK) == "\n"


def test_the_import_check_can_fail() -> None:
    assert run_python("import numba" + IMPORT_CHECK).split() == ["llvmlite", "numba"]


OBSERVE_WITHOUT_CACHE = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import torch
from precscope.kernels import new_rows, observe, to_histogram
row = new_rows(1)[0]
observe(torch.full((10,), 3.0), row)
print(to_histogram(row).sum_abs)
"""


def test_no_writable_cache_directory_means_no_cache() -> None:
    assert run_python(OBSERVE_WITHOUT_CACHE) == "30.0\n"
