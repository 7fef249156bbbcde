"""The observation as a torch operator, which ``torch.compile`` keeps in its graph.

Ordinary Python in a hook breaks the graph or is run only while tracing; an operator that mutates
one of its arguments is neither split off nor removed as dead code. The version in its name is
part of the contract: Inductor caches graphs by operator name, not by signature.
"""

from __future__ import annotations

import torch

from precscope.kernels.cpu import observe_cpu
from precscope.kernels.device import observe_on_device


def observe_eager(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Run the kernel of the tensor's device now.

    A row on the CPU for a tensor elsewhere costs a copy and a synchronisation.
    """
    if tensor.is_cpu:
        observe_cpu(tensor, row)
    elif not tensor.is_floating_point():
        raise TypeError(f"cannot observe a {tensor.dtype} tensor: pass floating-point values")
    elif row.is_cpu:
        observe_cpu(tensor.detach().cpu(), row)
    else:
        observe_on_device(tensor, row)


@torch.library.custom_op("precscope_v1::observe", mutates_args={"row"})
def observe_operator(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """``precscope_v1::observe(Tensor tensor, Tensor(a!) row) -> ()``: for compiled graphs."""
    observe_eager(tensor, row)


@observe_operator.register_fake
def _observe_fake(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Nothing to infer: no output."""
