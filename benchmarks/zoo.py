"""Bit-identity, coverage and overhead of watching, over a zoo of small architectures.

    python benchmarks/zoo.py [--steps 20] [--only NAME] [--json FILE]

Every model trains from the same seed with and without observers. The table says whether losses,
weights and random streams are the same bits, how many modules were observed, what was left out,
and the ratio of the median step times, plain and watched taking turns. The models are tiny: time
goes into calls, not into arithmetic, which is the worst case for overhead. Ends with status 1
after a crash, different bits or an observer's error.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from zoo_models import ZOO, Step  # noqa: E402 - found through the line above

SEED = 0
WARM_UP = 3
"""Steps before the clock counts: hooks are attached and memory is found in them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture, trained plain and watched.

    Attributes:
        name: as in the zoo.
        same_bits: whether losses, weights and random streams are the same.
        modules_seen: modules with an observed output.
        not_called: modules that the training never called, or whose outputs cannot be read.
        observer_errors: observers that failed, and were switched off.
        step_ratio: median time of a watched step by that of a plain one.
        crash: the exception that ended it, empty if none.
    """

    name: str
    same_bits: bool = False
    modules_seen: int = 0
    not_called: tuple[str, ...] = ()
    observer_errors: int = 0
    step_ratio: float = 0.0
    crash: str = ""

    @property
    def good(self) -> bool:
        """Whether watching changed nothing and saw something."""
        return self.same_bits and self.modules_seen > 0 and not self.observer_errors


class Training:
    """A model of the zoo from a fixed seed, that takes one step at a time.

    Two of them can take turns: each keeps the random streams to itself.
    """

    def __init__(self, build: Callable[[], tuple[nn.Module, Step]], watched: bool) -> None:
        _seed()
        self.model, self._step = build()
        self._optimizer = optimizer_of(self.model)
        self.monitor = Monitor(self.model, self._optimizer, NullSink()) if watched else None
        self.losses: list[torch.Tensor] = []
        self.step_ms: list[float] = []
        self._streams = _streams()

    def step(self) -> None:
        """One step of the training."""
        _restore(self._streams)
        began = time.perf_counter()
        self._optimizer.zero_grad()
        loss = self._step(self.model)
        loss.backward()
        self._optimizer.step()
        self.step_ms.append((time.perf_counter() - began) * 1e3)
        self.losses.append(loss.detach())
        self._streams = _streams()

    def state(self) -> list[torch.Tensor]:
        """Losses, weights and where the random streams are."""
        own, of_numpy, of_torch = self._streams
        streams = torch.tensor([hash(own), hash(of_numpy[1].tobytes()), of_numpy[2]])
        return [*self.losses, *self.model.state_dict().values(), streams, of_torch]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; SGD where it cannot be made, for lazy parameters and sparse gradients."""
    lazy = any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters())
    if lazy or any(getattr(m, "sparse", False) for m in model.modules()):
        return torch.optim.SGD(model.parameters(), 1e-2)
    return torch.optim.AdamW(model.parameters(), 1e-3)


def _seed() -> None:
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 - the global stream is what models draw from
    torch.manual_seed(SEED)


def _streams() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _restore(streams: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002
    torch.set_rng_state(streams[2])


def zoo() -> dict[str, Callable[[], tuple[nn.Module, Step]]]:
    """Every architecture by name; those of Transformers only where it is installed."""
    if find_spec("transformers") is None:
        return ZOO
    from zoo_transformers import FAMILIES

    return {**ZOO, **FAMILIES}


def compare(name: str, steps: int) -> Row:
    """Train one architecture plain and watched, a step each in turn."""
    build = zoo()[name]
    try:
        plain, watched = Training(build, False), Training(build, True)
        for _ in range(steps):
            plain.step()
            watched.step()
    except Exception as error:  # noqa: BLE001 - a crash is a result of this benchmark
        return Row(name, crash=f"{type(error).__name__}: {error}")
    assert watched.monitor is not None
    watched.monitor.close()
    return _row(name, plain, watched, watched.monitor.coverage())


def _row(name: str, plain: Training, watched: Training, coverage: dict[str, Any]) -> Row:
    unseen = coverage["modules_not_seen"]
    return Row(
        name,
        all(map(torch.equal, plain.state(), watched.state())),
        coverage["modules_seen"],
        tuple(m["name"] for m in unseen if "hands on" not in m["reason"]),
        len(coverage["observer_errors"]),
        median(watched.step_ms[WARM_UP:] or [0]) / median(plain.step_ms[WARM_UP:] or [1]),
    )


def line(row: Row) -> str:
    """The row as markdown."""
    if row.crash:
        return f"| {row.name} | CRASH: {row.crash} | | | | |"
    bits = "same" if row.same_bits else "DIFFERENT"
    missed = ", ".join(row.not_called[:3]) + (" …" if len(row.not_called) > 3 else "")
    cells = (row.name, bits, row.modules_seen, missed, row.observer_errors)
    return "| " + " | ".join(map(str, cells)) + f" | {row.step_ratio:.2f} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=sorted(zoo()), metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| architecture | bits | modules seen | not called | observer errors | step time ratio |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name in [options.only] if options.only else zoo():
        rows.append(compare(name, options.steps))
        print(line(rows[-1]), flush=True)
    return _summary(rows, options.json)


def _summary(rows: list[Row], path: Path | None) -> int:
    bad = [row.name for row in rows if not row.good]
    ratios = sorted(row.step_ratio for row in rows if not row.crash) or [0.0]
    print(
        f"\n{len(rows) - len(bad)} of {len(rows)} architectures with the same bits and no error; "
        f"step time ratio {median(ratios):.2f} (median), {ratios[-1]:.2f} (largest)"
        + (f"; wrong: {', '.join(bad)}" if bad else "")
    )
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
