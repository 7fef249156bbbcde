"""Loss scale: what FP16 loses of the gradients, and how wrong they come out.

Along an FP32 training, the same batch goes through an FP32 backward pass and through one whose
stored values are rounded to FP16, at each loss scale S. The lost shares are of the FP32
activation gradients, as a histogram would foresee them; the errors are of the FP16 run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import vocab_lm as example
from half_storage import half_storage


@dataclass(frozen=True, slots=True)
class Lost:
    """Shares of the non-zero activation gradients that FP16 flushes: count, sum |g|, sum g^2."""

    count: float
    l1: float
    energy: float


def lost_share(gradients: list[torch.Tensor], scale: float) -> Lost:
    """What rounding ``scale * g`` to FP16 turns into zero, over all the tensors together."""
    lost, every = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in gradients:
        magnitude = gradient.abs().double().flatten()
        flushed = magnitude[((magnitude * scale).half() == 0) & (magnitude > 0)]
        lost += _moments(flushed)
        every += _moments(magnitude)
    return Lost(*(lost / every).tolist())


def fp32_gradients(model, batch) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Weight gradients by name, and the gradient of every leaf module's output."""
    outputs: list[torch.Tensor] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for leaf in leaves]
    loss = example.loss(model, batch)
    for hook in hooks:
        hook.remove()
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(loss, [*model.parameters(), *outputs])
    return dict(zip(names, found, strict=False)), list(found[len(names) :])


def relative_errors(
    model, batch, scale: float, reference: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Per parameter ``|g16 - g| / |g|``; infinite or NaN where FP16 overflowed."""
    with half_storage(model) as forward:
        scaled = example.loss(forward, batch) * scale
        found = torch.autograd.grad(scaled, list(model.parameters()))
    pairs = zip(reference.items(), found, strict=True)
    return {name: ((g16 / scale - g).norm() / g.norm()).item() for (name, g), g16 in pairs}


def table(steps: tuple[int, ...], log2_scales: tuple[int, ...]) -> Iterator[str]:
    """The markdown lines of the table."""
    torch.manual_seed(0)
    model, batches = example.model(), example.batches()
    optimizer = example.optimizer(model)
    names = [name for name, _ in model.named_parameters() if name.endswith("weight")]
    yield "| step | S | count lost | L1 lost | energy lost | " + " | ".join(names) + " |"
    yield "|---|---|---|---|---|" + "---|" * len(names)
    for step, batch in enumerate(itertools.islice(batches, max(steps) + 1)):
        if step in steps:
            yield from _rows(model, batch, step, names, log2_scales)
        optimizer.zero_grad()
        example.loss(model, batch).backward()
        optimizer.step()


def _rows(model, batch, step: int, names: list[str], log2_scales) -> Iterator[str]:
    reference, outputs = fp32_gradients(model, batch)
    for log2_scale in log2_scales:
        scale = 2.0**log2_scale
        lost = lost_share(outputs, scale)
        errors = relative_errors(model, batch, scale, reference)
        cells = " | ".join(_error(errors[name]) for name in names)
        shares = f"{lost.count:.1%} | {lost.l1:.2%} | {lost.energy:.1e}"
        yield f"| {step} | 2^{log2_scale} | {shares} | {cells} |"


def _moments(values: torch.Tensor) -> torch.Tensor:
    return torch.stack([(values > 0).sum().double(), values.sum(), (values * values).sum()])


def _error(value: float) -> str:
    return f"{value:.1e}" if value < float("inf") else "overflow"
