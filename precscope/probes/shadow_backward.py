"""The arbiter of a loss scale: FP16 gradients at that scale beside FP32 gradients, same batch.

    error_p(k) = || g16_p(k) / 2^k - g32_p || / || g32_p ||        per parameter p

where g16 comes from a real forward with FP16 weights under FP16 autocast, and a backward of the
loss times 2^k. FP16
differs from FP32 at every scale (rounding, and ReLU masks that flip), so an error is judged
against its floor at a large safe scale, never against zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import nn

from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.storage import half_stored
from precscope.probes.finite_forward import first_break, module_breaks
from precscope.probes.isolated import isolated, random_streams_kept


@dataclass(slots=True)
class GradientErrors:
    """Squared sums over probe batches, per parameter and candidate scale.

    Attributes:
        batches: number of probe batches.
        squares: sum of g32^2 by parameter name.
        differences: sum of (g16 / 2^k - g32)^2 by log2 scale k and parameter; inf where the
            FP16 gradient was not finite.
        breaks: what ``first_break`` says of the last batch's FP16 forward; empty if nobody asked.
    """

    batches: int = 0
    squares: dict[str, float] = field(default_factory=dict)
    differences: dict[int, dict[str, float]] = field(default_factory=dict)
    breaks: list[str | None] = field(default_factory=list)

    def error(self, log2_scale: int, parameter: str) -> float | None:
        """Relative L2 error; None if the FP32 gradient is zero or not finite."""
        square = self.squares.get(parameter, 0.0)
        if not 0.0 < square < float("inf"):
            return None
        ratio: float = (self.differences[log2_scale][parameter] / square) ** 0.5
        return ratio

    def to_dict(self) -> dict[str, object]:
        """Errors as a JSON document: ``{"batches": n, "errors": {k: {parameter: error}}}``.

        An infinite error is null: that scale overflows.
        """
        errors: dict[str, dict[str, float | None]] = {}
        for k in sorted(self.differences):
            row = {p: self.error(k, p) for p in self.squares}
            errors[str(k)] = {
                p: (e if e < float("inf") else None) for p, e in row.items() if e is not None
            }
        return {"batches": self.batches, "errors": errors}


LossOf = Callable[[object], torch.Tensor]


def measure_gradient_errors(
    model: nn.Module,
    loss_of: LossOf,
    batches: Iterable[object],
    log2_scales: Iterable[int],
    device_type: str,
    keep: Collection[nn.Module] = (),
    find_breaks: bool = False,
) -> GradientErrors:
    """Gradient errors of every parameter at every candidate scale, summed over the batches.

    One FP16 forward serves the backward passes at all scales. The model, its gradients, buffers
    and the random streams are given back unchanged.

    Args:
        model: the model, in FP32.
        loss_of: computes the loss of a batch with it.
        batches: the probe batches.
        log2_scales: candidate scales.
        device_type: ``"cpu"`` or ``"cuda"``.
        keep: modules whose parameters stay in FP32.
        find_breaks: whether to look at the outputs of all modules in the last FP16 forward.
    """
    scales = sorted(set(log2_scales))
    errors = GradientErrors(differences={k: {} for k in scales})
    batches = list(batches)
    with isolated(model):
        for errors.batches, batch in enumerate(batches, 1):
            with_breaks = find_breaks and errors.batches == len(batches)
            _one_batch(model, loss_of, batch, scales, device_type, errors, keep, with_breaks)
    return errors


def _one_batch(
    model: nn.Module,
    loss_of: LossOf,
    batch: object,
    scales: list[int],
    device_type: str,
    errors: GradientErrors,
    keep: Collection[nn.Module],
    find_breaks: bool,
) -> None:
    with random_streams_kept():
        loss_of(batch).backward()
    parameters = dict(model.named_parameters())
    exact = {name: g.double() for name, g in _take_gradients(parameters).items()}
    for name, square in zip(exact, _sums_of_squares(list(exact.values())), strict=True):
        errors.squares[name] = errors.squares.get(name, 0.0) + square
    with half_stored(model, keep):
        with (
            half_on_cpu(),
            module_breaks(model) if find_breaks else nullcontext() as broken,
            torch.autocast(device_type, dtype=torch.float16),
        ):
            loss = loss_of(batch).float()
        if broken is not None:
            errors.breaks.append(first_break(broken, loss))
        for k in scales:
            # What a backward of ``loss * 2^k`` begins with, without the product.
            seed = torch.full_like(loss, 2.0**k)
            with half_on_cpu():
                torch.autograd.backward(loss, seed, retain_graph=k != scales[-1])
            _add_differences(exact, _take_gradients(parameters), k, errors)


def _take_gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    taken = {}
    for name, parameter in parameters.items():
        gradient = parameter.grad
        if gradient is not None:
            dense = gradient if gradient.layout is torch.strided else gradient.to_dense()
            taken[name] = torch.view_as_real(dense) if dense.is_complex() else dense
            parameter.grad = None
    return taken


def _add_differences(
    exact: dict[str, torch.Tensor],
    half: dict[str, torch.Tensor],
    log2_scale: int,
    errors: GradientErrors,
) -> None:
    sums = errors.differences[log2_scale]
    differences = [_difference(half.get(name), g, log2_scale) for name, g in exact.items()]
    for name, square in zip(exact, _sums_of_squares(differences), strict=True):
        # NaN and inf both say that this scale overflows.
        sums[name] = sums.get(name, 0.0) + (square if square == square else float("inf"))


def _difference(half: torch.Tensor | None, exact: torch.Tensor, log2_scale: int) -> torch.Tensor:
    """``exact - half / 2^log2_scale`` in float64; a gradient that never came is zero."""
    return exact if half is None else torch.sub(exact, half, alpha=2.0**-log2_scale)


def _sums_of_squares(tensors: list[torch.Tensor]) -> list[float]:
    """Sum of squares of each float64 tensor, fetched from the device at once."""
    if not tensors:
        return []
    flat = [tensor.reshape(-1) for tensor in tensors]
    sums: list[float] = torch.stack([torch.dot(values, values) for values in flat]).tolist()
    return sums
