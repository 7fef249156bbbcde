"""The real thing beside the emulation: operators that add in half where this program runs.

On a CPU these are the kernels that ``half_on_cpu`` reroutes: the gradients of embeddings, of
indexing, of overlapping windows. On CUDA it is the matrix product, and only if it is asked to
(``allow_fp16_accumulation``, torch 2.7 and later).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from precscope.arithmetic.operators import ACCUMULATE_ON_REQUEST, HALF_ACCUMULATION
from precscope.probes.accumulation.call import Call
from precscope.probes.accumulation.gather import fp16

Measure = Callable[[], "float | None"]

LARGEST_PRODUCT = 1 << 33
"""Multiplications of a product that is repeated in half on CUDA: a few milliseconds there."""


def half_operator(call: Call, *gradients: str) -> Measure | None:
    """The call in float16 beside the call in float64 on the same FP16 values; None off the CPU.

    Args:
        call: the call; its arguments must still be what they were.
        gradients: names of the arguments that carry the loss scale.
    """
    tensors = [v for v in call.arguments.values() if _is_float(v)]
    known = (*HALF_ACCUMULATION, *ACCUMULATE_ON_REQUEST, "native_layer_norm_backward")
    if call.operator.rstrip("_") not in [n.rstrip("_") for n in known]:
        return None
    if not tensors or any(not t.is_cpu for t in tensors):
        return None
    return lambda: _compare(call, gradients)


def _compare(call: Call, gradients: tuple[str, ...]) -> float | None:
    rounded = {
        name: fp16(value.detach(), call.scale if name in gradients else 1.0)
        for name, value in call.arguments.items()
        if _is_float(value)
    }
    if call.operator.endswith("_"):  # it has already written its result into its first argument
        rounded["self"] = torch.zeros_like(rounded["self"])
    try:
        half = _run(call, {name: value.half() for name, value in rounded.items()})
        exact = _run(call, {name: value.double() for name, value in rounded.items()})
    except (RuntimeError, TypeError):
        return None  # no kernel for one of the two formats
    return relative_error(half, exact)


def _run(call: Call, replaced: dict[str, Any]) -> torch.Tensor:
    names = [argument.name for argument in call.func._schema.arguments]
    positional = [replaced.get(n, v) for n, v in zip(names, call.args, strict=False)]
    keywords = {n: replaced.get(n, v) for n, v in call.kwargs.items()}
    found = call.func(*positional, **keywords)
    parts = found if isinstance(found, (tuple, list)) else (found,)
    # Of several results the last ones are parameter gradients, whose sums are the longest.
    flat = [part.reshape(-1).double() for part in parts if isinstance(part, torch.Tensor)]
    return torch.cat(flat[-2:] if len(flat) > 1 else flat)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float | None:
    """RMS(found - exact) / RMS(exact); None where that is not finite."""
    size = float(exact.double().square().mean().sqrt())
    error = float((found.double() - exact.double()).square().mean().sqrt())
    return error / size if size > 0 and error < float("inf") else None


def fp16_accumulated_product(
    left: torch.Tensor, right: torch.Tensor, scales: tuple[float, float]
) -> Measure | None:
    """The product (B, M, K) @ (B, K, N) on CUDA with real FP16 accumulators.

    None off CUDA, where torch cannot do it, and for products that would take too long.
    """
    if not left.is_cuda or not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        return None
    if left.numel() * right.shape[2] > LARGEST_PRODUCT:
        return None

    def measure() -> float | None:
        a, b = fp16(left.detach(), scales[0]), fp16(right.detach(), scales[1])
        with _fp16_accumulation():
            found = a.half() @ b.half()
        return relative_error(found, a.double() @ b.double())

    return measure


@contextmanager
def _fp16_accumulation() -> Iterator[None]:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_accumulation
    matmul.allow_fp16_accumulation = True
    try:
        yield
    finally:
        matmul.allow_fp16_accumulation = before


def _is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
