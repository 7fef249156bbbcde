"""What observing costs: training steps with and without a full capture, interleaved.

    python benchmarks/overhead.py [--threads 1] [--rounds 40] [--builds 7] [--json FILE] [--quick]
    python benchmarks/overhead.py --peers            # beside other tools; about six minutes

A full capture counts every element of every activation, activation gradient, weight and weight
gradient. Plain and watched take turns, one step each, in one process. Where a network's tensors
happen to lie in memory moves its speed by a few percent, so both are built anew several times: the
ratio is the median over builds of the ratio of medians. The arms ``every=10`` and ``every=25`` are
timed in blocks of so many steps, which hold one observed step each.

With ``--peers`` the tools are installed into an environment of their own, in the user's cache or in
``--environment DIR``, and the table goes to ``benchmarks/results/<device>/overhead_peers.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import product
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


def compare(plain: Step, watched: Step, rounds: int, block: int) -> list[tuple[float, float]]:
    """(plain, watched) milliseconds per step, interleaved; who goes first alternates."""
    timed_ms(plain, 10)
    timed_ms(watched, 10)
    pairs = []
    for i in range(rounds):
        if i % 2:
            second, first = timed_ms(watched, block), timed_ms(plain, block)
        else:
            first, second = timed_ms(plain, block), timed_ms(watched, block)
        pairs.append((first, second))
    return pairs


def summary(builds: list[list[tuple[float, float]]]) -> dict[str, float]:
    """Median over builds of the ratio of medians, and how far builds and neighbours differ."""
    by_build = [median(b for _, b in pairs) / median(a for a, _ in pairs) for pairs in builds]
    everything = [pair for pairs in builds for pair in pairs]
    ratios = sorted(b / a for a, b in everything)
    return {
        "plain_ms": median(a for a, _ in everything),
        "watched_ms": median(b for _, b in everything),
        "ratio": median(by_build),
        "ratio_lowest_build": min(by_build),
        "ratio_highest_build": max(by_build),
        "ratio_p10": ratios[len(ratios) // 10],
        "ratio_p90": ratios[-1 - len(ratios) // 10],
    }


ARMS: dict[str, tuple[dict[str, Any], int]] = {
    "every step": ({"every": 1, "kinds": KINDS}, 1),
    "every step, with updates": ({"every": 1}, 1),
    "every=10": ({"every": 10, "kinds": KINDS}, 10),
    "every=25": ({"every": 25, "kinds": KINDS}, 25),
}
TARGETS = {"every step": 1.10, "every=25": 1.01}
"""Largest ratio that is accepted, for the arms that have one."""
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Run all arms on both networks and print the table; or the tools beside each other."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    if options.peers:
        import peers

        place = options.environment or peers.default_environment()
        path = options.json or RESULTS / device_folder() / "overhead_peers.json"
        peers.run(machine(options.threads), place, options.tool or [], path)
        return
    rounds = 8 if options.quick else options.rounds
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, arm in product(options.model or MODELS, options.arm or ARMS):
            build, (record, block) = MODELS[name], ARMS[arm]
            runs = []
            for i in range(options.builds):
                kinds = (None, record) if i % 2 else (record, None)
                steps = {k is None: training_step(build, k, Path(folder)) for k in kinds}
                runs.append(compare(steps[True], steps[False], max(4, rounds // block), block))
            target = {"target": TARGETS[arm]} if arm in TARGETS else {}
            results.append({"model": name, "arm": arm, **summary(runs), **target})
        for watch in WATCHES:
            watch.close()
    report(results, machine(options.threads), options.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40, help="steps of each arm per build")
    parser.add_argument("--builds", type=int, default=7)
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--arm", choices=ARMS, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few rounds; not for quoting")
    parser.add_argument("--peers", action="store_true", help="compare with other tools")
    parser.add_argument("--tool", action="append", metavar="NAME", help="of the peers, only this")
    parser.add_argument("--environment", type=Path, metavar="DIR", help="of the peers")
    return parser.parse_args()


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": date.today().isoformat(),
        "cpu": device_name(torch.device("cpu")),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "precscope": precscope.__version__,
    }


def device_folder() -> str:
    """The processor as the name of a folder of results."""
    return "cpu-" + "-".join(device_name(torch.device("cpu")).lower().split())


def report(results: list[dict[str, Any]], machine: dict[str, Any], path: Path | None) -> None:
    """Print a markdown table with the machine it was measured on; write JSON if asked."""
    print(", ".join(f"{k} {v}" for k, v in machine.items()) + "\n")
    print(
        "| model | observed | plain ms | observed ms | ratio | target | over builds | p10 to p90 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for r in results:
        target = f"{r['target']:.2f}" if "target" in r else ""
        print(
            f"| {r['model']} | {r['arm']} | {r['plain_ms']:.2f} | {r['watched_ms']:.2f} "
            f"| **{r['ratio']:.3f}** | {target} | {r['ratio_lowest_build']:.3f} to "
            f"{r['ratio_highest_build']:.3f} | {r['ratio_p10']:.3f} to {r['ratio_p90']:.3f} |"
        )
    if path is not None:
        path.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
