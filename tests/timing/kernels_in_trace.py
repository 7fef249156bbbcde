"""A real trace of torch.profiler on the CPU, with kernels put in as the CUDA profiler writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def with_kernels(
    events: list[dict[str, Any]],
    name_of: Callable[[str, bool], str | None],
    by_launch: bool = False,
) -> list[dict[str, Any]]:
    """The events, and for each operator that ``name_of`` names a kernel of 10 us.

    Args:
        events: of the chrome trace.
        name_of: kernel for an operator's name and whether it is of the backward; None for none.
        by_launch: link through the launch's correlation, without the operator's id.
    """
    found = list(events)
    clock = 0.0
    for event in events:
        if event.get("cat") != "cpu_op":
            continue
        args = event["args"]
        kernel = name_of(event["name"], bool(args.get("Fwd thread id")))
        if kernel is None:
            continue
        clock += 20.0
        number = 100_000 + len(found)
        link = {"correlation": number}
        if by_launch:
            # Later than the operators inside it.
            at = {"ts": event["ts"] + event["dur"], "dur": 0.0, "tid": event["tid"]}
            found.append(
                {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "args": link, **at}
            )
        else:
            link["External id"] = args["External id"]
        found.append(
            {
                "ph": "X",
                "cat": "kernel",
                "name": kernel,
                "ts": event["ts"] + clock,
                "dur": 10.0,
                "tid": 7,
                "args": {"stream": 7, "device": 0, **link},
            }
        )
    return found
