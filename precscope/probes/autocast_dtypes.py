"""Which dtype each site has in half precision training, from one real step of it.

The step is that of the ``paper`` recipe: weights stored in FP16, under FP16 autocast. A site that
stays in float32 there is not at risk, whatever its exponents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from precscope.arithmetic import half_on_cpu
from precscope.arithmetic.storage import convertible_parameters, half_stored
from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink
from precscope.monitor.sitebook import dtype_name
from precscope.probes.isolated import isolated


class CastParameters(TorchDispatchMode):
    """Notes which parameters are converted, and to what: autocast casts at the operator.

    Attributes:
        dtypes: name of the dtype by name of the parameter, of those that were converted.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {p.data_ptr(): name for name, p in model.named_parameters() if p.numel()}
        self.dtypes: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            name = self._names.get(args[0].data_ptr())
            if name is not None:
                self.dtypes[name] = dtype_name(result.dtype)
        return result


def autocast_dtypes(
    model: nn.Module, loss: Callable[[], torch.Tensor], device_type: str
) -> dict[tuple[str, str], str]:
    """Dtype name by (site name, kind) in one forward and backward with FP16 weights and autocast.

    Activations and their gradients are looked at as they come; a weight and its gradient have
    the dtype that it is stored in, or that autocast casts it to.

    Args:
        model: the model whose sites are asked for; given back unchanged.
        loss: computes the loss of one batch with ``model``.
        device_type: ``"cpu"`` or ``"cuda"``.
    """
    sink = NullSink()
    with isolated(model), half_stored(model), CastParameters(model) as casts, half_on_cpu():
        kinds = ("activation", "activation_gradient")
        with Monitor(model, None, sink, kinds=kinds, window_steps=1):
            with torch.autocast(device_type, dtype=torch.float16):
                value = loss()
            value.backward()
    found: dict[tuple[str, str], str] = {(s.name, s.kind): s.dtype for s in sink.sites}
    stored = convertible_parameters(model)
    for name, parameter in model.named_parameters():
        own = "float16" if name in stored else dtype_name(parameter.dtype)
        dtype = casts.dtypes.get(name, own)
        found[(name, "weight")] = found[(name, "weight_gradient")] = dtype
    return found
