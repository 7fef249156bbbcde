"""``half_on_cpu``: float16 storage with float32 arithmetic, on a CPU.

A reroute applies to an operator whose native CPU kernel for float16 is slow, is missing, or
accumulates in float16 (``operators.py`` lists them with the reason). For float16 CPU tensors
``x`` it computes

    fp16(op(fp32(x)))

which is what a tensor core does: FP16 operands, exact products, FP32 sums, one rounding to
nearest even at the store. Every other operator runs as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from precscope.arithmetic.operators import reroutes
from precscope.arithmetic.widen import Reroute

_active = threading.local()


@contextmanager
def half_on_cpu() -> Iterator[None]:
    """Compute in float32 and store in float16, for float16 tensors on the CPU, in this thread.

    Covers forward and backward alike (CPU gradients are computed in the calling thread). Float32
    and bfloat16 tensors, other devices, integer arguments and the random stream are untouched.
    Nested use costs nothing; the mode is gone afterwards, also after an exception.
    """
    if getattr(_active, "depth", 0):
        yield
        return
    _active.depth = 1
    try:
        with _HalfOnCpu():
            yield
    finally:
        _active.depth = 0


class _HalfOnCpu(TorchDispatchMode):
    """Sends each operator to its reroute, if it has one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reroutes: dict[Any, Reroute] = reroutes()
        self._composite: dict[Any, bool] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        reroute = self._reroutes.get(func)
        if reroute is not None:
            return reroute(func, args, kwargs)
        if torch.is_inference_mode_enabled() and self._is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        return func(*args, **kwargs)

    def _is_composite(self, func: Any) -> bool:
        # Inference mode skips autograd, which elsewhere takes linear, conv2d, ... apart before
        # a dispatch mode sees them; left whole, they would call the slow kernels underneath.
        known = self._composite.get(func)
        if known is None:
            known = torch._C._dispatch_has_kernel_for_dispatch_key(
                func.name(), "CompositeImplicitAutograd"
            )
            self._composite[func] = known
        return known
