"""Runs the Triton kernel on CPU tensors, in Triton's interpreter: ``python triton_worker.py IN OUT``.

A process of its own, because Triton decides at its first import whether it interprets.
"""

from __future__ import annotations

import sys

import torch

from precscope.kernels import new_rows
from precscope.kernels.device import launch, launch_many


def main() -> None:
    cases = torch.load(sys.argv[1], weights_only=True)
    rows = {}
    for name, tensor in cases["alone"].items():
        rows[name] = new_rows(1)[0]
        launch(tensor, rows[name])
    for name, tensors in cases["together"].items():
        rows[name] = new_rows(2)
        launch_many(tensors, [rows[name][i % 2] for i in range(len(tensors))])
    torch.save(rows, sys.argv[2])


if __name__ == "__main__":
    main()
