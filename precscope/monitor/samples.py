"""A bounded sample of a parameter, followed wherever its values go."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from precscope.monitor.tensors import local_values

SAMPLES = 256


@dataclass(slots=True)
class Sample:
    """A strided view of up to 256 elements of a parameter, and the storage it was made from."""

    name: str
    parameter: torch.Tensor
    group: dict[str, object]
    view: torch.Tensor = field(init=False)
    pointer: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.refresh()

    @property
    def rate(self) -> float:
        """Learning rate of the group; 1 if it has none, or keeps it in a tensor."""
        rate = self.group.get("lr")
        return float(rate) if isinstance(rate, (int, float)) else 1.0

    def refresh(self) -> None:
        """Make the view anew if the parameter's storage has moved (``p.data = ...``)."""
        flat = local_values(self.parameter.detach())
        if flat.data_ptr() == self.pointer:
            return
        stride = max(1, flat.numel() // SAMPLES)
        dense = flat if flat.is_contiguous() else flat.permute(_dense_order(flat))
        self.view = dense.reshape(-1)[::stride][:SAMPLES]
        # A layout with gaps is copied by reshape: such a view must be made anew each time.
        aliases = self.view.data_ptr() == flat.data_ptr()
        self.pointer = flat.data_ptr() if aliases else -1


def _dense_order(tensor: torch.Tensor) -> list[int]:
    return sorted(range(tensor.dim()), key=lambda d: tensor.stride(d), reverse=True)
