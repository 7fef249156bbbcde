"""What observing costs: training steps with and without a full capture, interleaved.

    python benchmarks/overhead.py [--threads 1] [--rounds 60] [--json FILE] [--quick]

A full capture counts every element of every activation, activation gradient, weight and weight
gradient. Arms take turns, one step each, in one process; a ratio is that of the medians, with
the tenth and ninetieth percentile of the ratios of neighbouring steps beside it. The arm
``every=10`` is timed in blocks of ten steps, so that it holds one observed step each.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch
from overhead_models import MODELS
from torch.nn import functional as F

import precscope
from precscope.environment import device_name
from precscope.watching import Watch

KINDS = ("activation", "activation_gradient", "weight", "weight_gradient")
Step = Callable[[], None]
WATCHES: list[Watch] = []


def training_step(build: Callable[[], Any], record: dict[str, Any] | None, folder: Path) -> Step:
    """A step of a fresh model, watched with the given arguments, or plain."""
    torch.manual_seed(0)
    model, inputs, targets = build()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    if record is not None:
        path = folder / f"{time.time_ns()}.precscope"
        WATCHES.append(precscope.watch(model, optimizer, path=path, **record))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(inputs).flatten(0, -2), targets).backward()
        optimizer.step()

    return step


def timed_ms(step: Step, times: int) -> float:
    """Milliseconds per step over ``times`` steps."""
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) * 1e3 / times


def compare(plain: Step, watched: Step, rounds: int, block: int) -> dict[str, float]:
    """Interleave the two arms; the one that goes first alternates."""
    timed_ms(plain, 10)
    timed_ms(watched, 10)
    pairs = []
    for i in range(rounds):
        if i % 2:
            second, first = timed_ms(watched, block), timed_ms(plain, block)
        else:
            first, second = timed_ms(plain, block), timed_ms(watched, block)
        pairs.append((first, second))
    ratios = sorted(b / a for a, b in pairs)
    plain_ms, watched_ms = median(a for a, _ in pairs), median(b for _, b in pairs)
    return {
        "plain_ms": plain_ms,
        "watched_ms": watched_ms,
        "ratio": watched_ms / plain_ms,
        "ratio_median_of_pairs": median(ratios),
        "ratio_p10": ratios[len(ratios) // 10],
        "ratio_p90": ratios[-1 - len(ratios) // 10],
    }


ARMS: dict[str, tuple[dict[str, Any], int]] = {
    "every step": ({"every": 1, "kinds": KINDS}, 1),
    "every step, with updates": ({"every": 1}, 1),
    "every=10": ({"every": 10, "kinds": KINDS}, 10),
}


def main() -> None:
    """Run all arms on both networks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few rounds; not for quoting")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rounds = 8 if options.quick else options.rounds
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, build in MODELS.items():
            for arm, (record, block) in ARMS.items():
                plain = training_step(build, None, Path(folder))
                watched = training_step(build, record, Path(folder))
                count = max(4, rounds // block)
                results.append({"model": name, "arm": arm, **compare(plain, watched, count, block)})
        for watch in WATCHES:
            watch.close()
    report(results, options.threads, options.json)


def report(results: list[dict[str, Any]], threads: int, path: Path | None) -> None:
    """Print a markdown table with the machine it was measured on; write JSON if asked."""
    machine = {
        "date": date.today().isoformat(),
        "cpu": device_name(torch.device("cpu")),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "precscope": precscope.__version__,
    }
    print(", ".join(f"{k} {v}" for k, v in machine.items()) + "\n")
    print("| model | observed | plain ms | observed ms | ratio | of pairs (p10 to p90) |")
    print("|---|---|---|---|---|---|")
    for r in results:
        spread = f"{r['ratio_median_of_pairs']:.3f} ({r['ratio_p10']:.3f} to {r['ratio_p90']:.3f})"
        print(
            f"| {r['model']} | {r['arm']} | {r['plain_ms']:.2f} | {r['watched_ms']:.2f} "
            f"| {r['ratio']:.3f} | {spread} |"
        )
    if path is not None:
        path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
