"""One tool on one network, in a process of its own; the result is a line of JSON.

    python benchmarks/peers_measure.py --tool precscope --model transformer --every 1 --rounds 20

``benchmarks/overhead.py --peers`` starts this in the environment of the tools.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from overhead import compare, summary  # noqa: E402 - found through the line above
from overhead_models import MODELS  # noqa: E402
from peers_tools import TOOLS, Job, Tool, Training  # noqa: E402

READING = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}
MOVING = {torch.Tensor.cpu, torch.Tensor.to}
COUNTED_STEPS = 4
"""At least so many steps are counted, in whole periods of the schedule."""


class Copies(TorchFunctionMode):
    """Counts tensors that are brought to the host as a whole; on a CPU no operation tells."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0
        self._kept: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and go on; reading what was just copied is not another copy."""
        result = func(*args, **(kwargs or {}))
        moved = func in MOVING and (func is torch.Tensor.cpu or "cpu" in map(str, args[1:]))
        if (moved or func in READING) and not self.on_host(args[0]):
            self.copies += 1
            # Kept, so that no other tensor gets its address.
            self._kept[_address(result if moved else args[0])] = (result, args[0])
        return result

    def begin_step(self) -> None:
        """What was copied in a former step has to be copied again: it has changed."""
        self._kept.clear()

    def on_host(self, tensor: torch.Tensor) -> bool:
        """Whether this is a copy that was counted, or a view of one."""
        return _address(tensor) in self._kept


class Operations(TorchDispatchMode):
    """Counts operations of ATen, and those that bring one number to the host."""

    def __init__(self, copies: Copies | None = None) -> None:
        super().__init__()
        self.operations = self.reads = 0
        self._copies = copies

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and go on; a number of a tensor on the host is no read."""
        self.operations += 1
        if func is torch.ops.aten._local_scalar_dense.default:
            self.reads += self._copies is None or not self._copies.on_host(args[0])
        return func(*args, **(kwargs or {}))


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def own_kernel_calls() -> Iterator[list[int]]:
    """Counts calls of precscope's kernel from inside the block on: it is no operation of ATen."""
    from precscope import kernels

    calls = [0]
    makers: dict[str, Any] = {
        name: getattr(kernels, name) for name in ("observer", "observer_of_many")
    }

    def counting(make: Any) -> Any:
        def made(rows: Any) -> Any:
            observe = make(rows)

            def counted(tensors: Any) -> Any:
                calls[0] += 1
                return observe(tensors)

            return observe and counted

        return made

    for name, make in makers.items():
        setattr(kernels, name, counting(make))
    try:
        yield calls
    finally:
        for name, make in makers.items():
            setattr(kernels, name, make)


def counts(watched: Callable[[], None], plain: Callable[[], None], every: int) -> dict[str, float]:
    """What the tool adds to a step, the mean over whole periods of its schedule."""
    steps = max(every, COUNTED_STEPS)
    copies, alone = Copies(), Operations()
    operations = Operations(copies)
    with operations, copies:
        for _ in range(steps):
            copies.begin_step()
            watched()
    with alone:
        plain()
    return {
        "added_operations": operations.operations / steps - alone.operations,
        "host_reads": operations.reads / steps,
        "host_copies": copies.copies / steps,
    }


def measure(tool: Tool, model: str, every: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Times and counts of one tool."""
    plain, watched = Training(MODELS[model]), Training(MODELS[model])
    with ExitStack() as closing:
        calls = closing.enter_context(own_kernel_calls()) if tool.name == "precscope" else [0]
        around = tool.attach(Job(watched, every, folder, closing))
        index = count()
        pairs = compare(plain.step, lambda: around(next(index)), rounds, every)
        found: dict[str, Any] = dict(summary([pairs]))
        calls[0] = 0
        if tool.counted:
            found.update(counts(lambda: around(next(index)), plain.step, every))
            found["own_kernel_calls"] = calls[0] / max(every, COUNTED_STEPS)
    return found


def main() -> None:
    """Measure, and print the result or what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tool", choices=[tool.name for tool in TOOLS], required=True)
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    (tool,) = (tool for tool in TOOLS if tool.name == options.tool)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        result = _tried(
            lambda: measure(tool, options.model, options.every, options.rounds, Path(folder))
        )
    print(json.dumps(result))


def _tried(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - that a tool fails here is a result
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}


if __name__ == "__main__":
    main()
