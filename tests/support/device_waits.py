"""Whether the host waits for the GPU: asked of torch, and of a kernel that takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

LONG_CYCLES = 600_000_000
"""About a third of a second: far longer than the host takes for what is tested."""


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Whatever makes the host wait for the device fails.

    Torch's own check raises where torch waits. It does not see what others call, and an error in an
    observer is caught: so the stream is busy before, and has to be busy still afterwards.
    """
    torch.cuda.synchronize()
    before, passed = torch.cuda.get_sync_debug_mode(), _event()
    torch.cuda._sleep(LONG_CYCLES)
    passed.record()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
    waited = passed.query()
    torch.cuda.synchronize()
    assert not waited, "the host waited for the device"
    assert passed.query()


def _event() -> Any:
    return torch.cuda.Event()
