"""Matrix products: a linear layer, ``matmul``, and their gradients.

A backward product is told by its factors: it holds one factor of the forward product and yields
the gradient of the other. The one that is new is the gradient, which carries the loss scale.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from precscope.probes.accumulation.call import Call, Origin, key_of
from precscope.probes.accumulation.facts import Reduction
from precscope.probes.accumulation.gather import fp16, kept_length, sampled
from precscope.probes.accumulation.native import fp16_accumulated_product

FACTORS = (
    ("self", "mat2"),
    ("mat1", "mat2"),
    ("batch1", "batch2"),
    ("self", "vec"),
    ("mat", "vec"),
)
ORDINALS = ("first", "second")


def product(call: Call) -> Iterator[Reduction]:
    """``mm``, ``addmm``, ``bmm``, ``baddbmm``, ``addbmm``, ``mv``, ``addmv``, ``dot``."""
    left, right = factors(call)
    if not call.is_backward:
        operation, scales = _forward(call, left, right), (1.0, 1.0)
    else:
        operation, scales = _backward(call, left, right)
    a, b = _three_dims(left, right)
    if a.numel() == 0 or b.numel() == 0:
        return
    yield Reduction(
        operation,
        "product",
        a.shape[2],
        lambda: _addends(a, b, scales),
        native=fp16_accumulated_product(a, b, scales),
    )


def factors(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors, by whatever names the operator knows them."""
    if call.operator == "dot":
        return call.tensor("self"), call.tensor("tensor")
    for first, second in FACTORS[::-1]:
        if first in call.arguments and second in call.arguments:
            return call.tensor(first), call.tensor(second)
    raise KeyError(f"{call.operator} has no two factors")


def _forward(call: Call, left: torch.Tensor, right: torch.Tensor) -> str:
    weights = (_weight_name(call, left), _weight_name(call, right))
    named = next((w for w in weights if w), None)
    label = call.label("product") if named is None else forward_name(named)
    if call.origin is not None:
        call.origin.label = label
        call.origin.factors = (key_of(left), key_of(right))
        call.origin.weights = weights
    return label


def _weight_name(call: Call, factor: torch.Tensor) -> str | None:
    return call.weights.get(factor.data_ptr()) or call.weights.get(
        factor.untyped_storage().data_ptr()
    )


def _backward(
    call: Call, left: torch.Tensor, right: torch.Tensor
) -> tuple[str, tuple[float, float]]:
    """What this product is the gradient of, and which of its factors is a gradient."""
    origin = call.origin
    if origin is None or len(origin.factors) != 2:
        return call.label("product"), (call.scale, 1.0)
    known = [_same_memory(origin, f) for f in (left, right)]
    held = known[1] if known[1] is not None else known[0]
    if held is None:
        wanted = _by_shape(call, origin)
        return gradient_name(origin, wanted), (call.scale, 1.0)
    scales = (call.scale, 1.0) if known[1] is not None else (1.0, call.scale)
    return gradient_name(origin, 1 - held), scales


def _same_memory(origin: Origin, factor: torch.Tensor) -> int | None:
    """Which factor of the forward product this is, None for a gradient."""
    address = factor.data_ptr()
    return next((i for i, (known, _) in enumerate(origin.factors) if known == address), None)


def _by_shape(call: Call, origin: Origin) -> int:
    output = call.output()
    shape = tuple(output.shape) if output is not None else ()
    first = origin.factors[0][1]
    return 0 if shape in (first, first[:-2] + first[:-3:-1]) else 1


def forward_name(weight: str) -> str:
    """``forward``, with the parameter's name where it is not just ``weight``."""
    return "forward" if weight == "weight" else f"forward ({weight})"


def gradient_name(origin: Origin, wanted: int) -> str:
    """``weight gradient``, ``input gradient``, ``gradient of the first factor of product``."""
    mine, other = origin.weights[wanted], origin.weights[1 - wanted]
    if mine:
        return f"{mine} gradient"
    if other:
        return "input gradient" if other == "weight" else f"input gradient ({other})"
    return f"gradient of the {ORDINALS[wanted]} factor of {origin.label}"


def _three_dims(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as (B, M, K) and (B, K, N), without copying."""
    if left.dim() == 1:
        left = left[None]
    if right.dim() == 1:
        right = right[:, None]
    return (
        left if left.dim() == 3 else left[None],
        right if right.dim() == 3 else right[None],
    )


def _addends(a: torch.Tensor, b: torch.Tensor, scales: tuple[float, float]) -> torch.Tensor:
    batches, rows, length = a.shape
    columns = b.shape[2]
    flat = sampled(batches * rows * columns)
    kept = kept_length(length, len(flat))
    column = flat // (rows * columns) * columns + flat % columns
    left = _rows(a, flat // columns, kept)
    right = _rows(b.transpose(1, 2), column, kept)
    return (fp16(left, scales[0]) * fp16(right, scales[1])).t()


def _rows(factor: torch.Tensor, numbers: torch.Tensor, kept: int) -> torch.Tensor:
    """Rows of (B, N, K), numbered through the batches: their first values as float32 (m, kept)."""
    numbers = numbers.to(factor.device)
    if len(factor) == 1:
        return factor.detach()[0, :, :kept].index_select(0, numbers).float()
    size = factor.shape[1]
    return factor.detach()[numbers // size, numbers % size, :kept].float()
