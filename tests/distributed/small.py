"""A training under DDP that asks for a process group; its second rank may be killed.

Arguments: ``none`` or ``killed``, and a Recording, if it shall watch itself.
"""

from __future__ import annotations

import os
import signal
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

STEPS, LAST_STEP = 70, 66


def main(how: str, *path: str) -> None:
    """Train; the last rank is killed after ``LAST_STEP`` steps."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if path:
        import precscope

        precscope.watch(model, optimizer, path=path[0], every=1)
    for step in range(STEPS):
        if step == LAST_STEP and dist.get_rank() == 1 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
