"""Sums and means, softmax denominators, losses: one value after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod

import torch

from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import (
    fp16,
    kept_length,
    reduced_dims,
    strided_columns,
)

MEAN, NONE = 1, 0
"""Codes of the ``reduction`` argument of a loss."""

LONGEST_NORM = 1 << 14
"""Gradient values that the norm is measured on: it is one long sum, which no SIMD helps."""


def total(call: Call) -> Iterator[Reduction]:
    """``sum`` and ``mean``: a mean is its sum, divided afterwards."""
    tensor, dims = call.tensor("self"), call.get("dim")
    kind = "mean" if call.operator == "mean" else "sum"
    operation = _gradient_sum(call) if call.is_backward else call.label(kind)
    yield from _columns(operation, tensor, dims, lambda x: fp16(x, call.scale))


def _gradient_sum(call: Call) -> str:
    return f"gradient sum of {call.origin.label}" if call.origin else "gradient sum"


def squares(call: Call) -> Iterator[Reduction]:
    """``linalg_vector_norm`` and ``norm`` of order 2: a sum of squares under a root."""
    order = call.get("ord", call.get("p", 2))
    if float(order) != 2.0:
        return
    tensor = call.tensor("self")
    yield from _columns(call.label("norm"), tensor, call.get("dim"), lambda x: fp16(x).square())


def variance(call: Call) -> Iterator[Reduction]:
    """``var``, ``var_mean``, ``std``: the mean, and the sum of squared deviations."""
    tensor, dims = call.tensor("self"), call.get("dim")
    yield from _columns(call.label("mean"), tensor, dims, fp16)
    yield from _columns(
        call.label("variance"), tensor, dims, lambda x: fp16(x - x.mean(0)).square()
    )


def softmax(call: Call) -> Iterator[Reduction]:
    """``_softmax`` and ``_log_softmax``: the denominator, sum of exp(x - max)."""
    if call.origin is not None:
        call.origin.label = call.label("softmax")
    yield from _columns(
        call.label("softmax denominator"), call.tensor("self"), call.get("dim"), exponentials
    )


def exponentials(x: torch.Tensor) -> torch.Tensor:
    """exp(x - max) of each column, stored in FP16."""
    return fp16((x - x.amax(0)).exp())


def softmax_backward(call: Call) -> Iterator[Reduction]:
    """The sum in a softmax's gradient: of g y, for a log-softmax of g."""
    gradient, output = call.tensor("grad_output"), call.tensor("output")
    dims = call.get("dim")
    columns, length = (gradient, dims), _length(gradient, dims)

    def addends() -> torch.Tensor:
        g = fp16(strided_columns(*columns)[0], call.scale)
        if call.operator.startswith("_log"):
            return g
        return g * fp16(strided_columns(output, dims)[0])

    yield Reduction("softmax gradient sum", "reduction", length, addends)


def likelihood(call: Call) -> Iterator[Reduction]:
    """``nll_loss``: the loss of a batch, sum of the targets' negative log-probabilities."""
    if int(call.get("reduction", MEAN)) == NONE:
        return
    scores, target = call.tensor("self"), call.tensor("target").long()
    ignored = int(call.get("ignore_index", -100))

    def addends() -> torch.Tensor:
        kept = target.clamp(0, scores.shape[-1 if scores.dim() == 1 else 1] - 1)
        dim = scores.dim() - 1 if scores.dim() == 1 else 1
        values = -scores.detach().gather(dim, kept.unsqueeze(dim)).squeeze(dim)
        values = torch.where(target == ignored, 0.0, values.float()).reshape(-1, 1)
        return fp16(values[: kept_length(len(values), 1)])

    yield Reduction(call.label("loss"), "reduction", target.numel(), addends)


def distance(call: Call) -> Iterator[Reduction]:
    """``mse_loss``, ``smooth_l1_loss``, ``huber_loss``: the loss of a batch."""
    if int(call.get("reduction", MEAN)) == NONE:
        return
    guess, target = call.tensor("self"), call.tensor("target")
    unreduced = [NONE if n == "reduction" else call.arguments[n] for n in _given(call)]

    def addends() -> torch.Tensor:
        if call.operator == "mse_loss":
            return fp16(_flat(guess) - _flat(target.expand_as(guess))).square()
        return fp16(_flat(call.func(*unreduced)))

    yield Reduction(call.label("loss"), "reduction", guess.numel(), addends)


def _given(call: Call) -> list[str]:
    names = [argument.name for argument in call.func._schema.arguments]
    return [n for n in names if n in call.arguments or n == "reduction"]


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x.detach().float().reshape(-1, 1)[: kept_length(x.numel(), 1)]


def _length(tensor: torch.Tensor, dims: Sequence[int] | int | None) -> int:
    return prod(tensor.shape[d] for d in reduced_dims(tensor, dims))


def _columns(
    operation: str,
    tensor: torch.Tensor,
    dims: Sequence[int] | int | None,
    stored: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[Reduction]:
    if tensor.is_floating_point() and tensor.layout is torch.strided and tensor.numel():
        length = _length(tensor, dims)
        yield Reduction(
            operation, "reduction", length, lambda: stored(strided_columns(tensor, dims)[0])
        )


def gradient_norm(gradients: Sequence[torch.Tensor], scale: float) -> Reduction:
    """The norm of all gradients together: one sum of squares over every parameter.

    Of gradients as FP16 stores them at the loss scale, after unscaling: that comes before a norm
    is taken. Evenly spaced values stand for all where there are many.
    """
    length = sum(g.numel() for g in gradients)
    every = -(-length // LONGEST_NORM)

    def addends() -> torch.Tensor:
        parts = [g.detach().reshape(-1)[::every].to("cpu", torch.float32) for g in gradients]
        return (fp16(torch.cat(parts), scale) / scale).square()[:, None]

    return Reduction("gradient norm", "reduction", length, addends)
