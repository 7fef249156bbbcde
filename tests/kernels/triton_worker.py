"""Runs the Triton kernel on CPU tensors, in Triton's interpreter: ``python triton_worker.py IN OUT``.

A process of its own, because Triton decides at its first import whether it interprets.
"""

from __future__ import annotations

import sys

import torch

from precscope.kernels import new_rows
from precscope.kernels import triton_kernel as kernel
from precscope.kernels.device import KINDS, launch, launch_many


def launch_narrow(tensor: torch.Tensor, row: torch.Tensor) -> None:
    """Two programs of four lanes, whose planes are full after three tiles of 64 values."""
    bits = tensor.view(torch.int32 if tensor.itemsize == 4 else torch.int16)
    kind = KINDS[tensor.dtype]
    kernel.observe_one[(2,)](bits, bits.numel(), row, KIND=kind, WIDTH=64, PLANES=2)


def main() -> None:
    cases = torch.load(sys.argv[1], weights_only=True)
    rows = {}
    for name, tensor in cases["alone"].items():
        rows[name] = new_rows(1)[0]
        launch(tensor, rows[name])
    for name, tensors in cases["together"].items():
        rows[name] = new_rows(2)
        launch_many(tensors, [rows[name][i % 2] for i in range(len(tensors))])
    for name, tensor in cases["narrow"].items():
        rows[name] = new_rows(1)[0]
        launch_narrow(tensor, rows[name])
    torch.save(rows, sys.argv[2])


if __name__ == "__main__":
    main()
