"""A device without float64, as Apple's MPS is: tensors that say so, and keep their values on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

REFUSED = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it"
MPS = torch.device("mps")


class OnMps(torch.Tensor):
    """Autograd takes it for a ``meta`` tensor, the one device without values that it knows."""

    near: torch.Tensor
    device = property(lambda self: MPS)
    is_meta = property(lambda self: False)

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> OnMps:
        made: OnMps = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, near.stride(), dtype=near.dtype, device=torch.device("meta")
        )
        made.near = near
        return made

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.near.untyped_storage()

    def data_ptr(self) -> int:
        return self.near.data_ptr()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") is torch.float64:
            raise TypeError(REFUSED)
        target = kwargs.get("device")
        if target is not None:
            kwargs["device"] = "cpu"
        owners: dict[int, OnMps] = {}

        def stored(value: Any) -> Any:
            if not isinstance(value, OnMps):
                return value
            owners[id(value.near)] = value
            return value.near

        def far(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or id(value) in owners:
                return owners.get(id(value), value)
            if value.dtype is torch.float64:
                raise TypeError(REFUSED)
            return cls(value)

        found = func(*tree_map(stored, args), **tree_map(stored, kwargs))
        is_leaving = target is not None and torch.device(target).type == "cpu"
        return found if is_leaving else tree_map(far, found)


def moved(model: nn.Module) -> nn.Module:
    """The model on that device; ``Module.to`` would ask torch for it."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(OnMps(parameter.data))
    return model
