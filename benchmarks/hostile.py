"""Damaged, swapped and forged Recordings through every command that reads one.

    python benchmarks/hostile.py [--every N] [--failures]

Prints one line per group of cases: how many gave exactly what the undamaged file gives, how many one
clear line, how many forged ones were shown as they stand. Anything else is a failure: a traceback,
more than one line, a case that takes more than 30 s, a wrong number, or forged text that became
markup. Exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from click.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from precscope_cli.main import cli  # noqa: E402
from tests.support import damaged_files  # noqa: E402
from tests.support.damaged_files import MARK, Case  # noqa: E402

LIMIT_S = 30
NEVER = "flushed_l1 > 1"
"""A rule that no share can hit, so that ``check`` reads everything and ends with 0."""
OUTCOMES = ("same", "one line", "as it stands", "FAILURE")


class TooLong(BaseException):
    """A case did not end; no handler of ordinary errors may swallow it."""


def call(*args: object) -> Result:
    """A command of the command line, in this process."""
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def fault(result: Result) -> str:
    """What is wrong with how a command ended, empty if nothing is."""
    if not isinstance(result.exception, SystemExit | None):
        return f"raised {result.exception!r}"
    if result.exit_code == 0:
        return ""
    lines = result.stderr.count("\n")
    named = result.stderr.startswith("error: ")
    return "" if named and lines == 1 else f"said {lines} lines: {result.stderr[-200:]!r}"


def tried(case: Case, path: Path, good: Path, truth: str) -> tuple[str, str]:
    """Outcome and, of a failure, what happened."""
    answer = call("report", path, "--json", "-")
    calls = {"report --json": answer, "report": call("report", path)}
    pages = [path.with_name(name) for name in ("report.html", "a.html", "b.html")]
    calls["report -o"] = call("report", path, "-q", "-o", pages[0])
    calls["compare"] = call("compare", good, path, "-o", pages[1])
    calls["compare, the other way"] = call("compare", path, good, "-o", pages[2])
    calls["export"] = call("export", path, "--csv", path.with_name("tables"), "-q")
    calls["check"] = call("check", path, "--fail-on", NEVER)
    calls["watch"] = call("watch", path, "--once")
    for command, result in calls.items():
        if found := fault(result):
            return "FAILURE", f"{command} {found}"
    if any(page.exists() and MARK in page.read_text() for page in pages):
        return "FAILURE", "text became markup"
    if answer.exit_code:
        return "one line", ""
    if answer.stdout == truth:
        return "same", ""
    return ("as it stands", "") if case.is_forged else ("FAILURE", "another number")


def attempt(case: Case, folder: Path, good: Path, truth: str) -> tuple[str, str]:
    """``tried``, with a limit on its time."""
    folder.mkdir()
    path = folder / "case.precscope"
    case.make(good.read_bytes(), path)
    signal.alarm(LIMIT_S)
    try:
        return tried(case, path, good, truth)
    except TooLong:
        return "FAILURE", f"took more than {LIMIT_S} s"
    finally:
        signal.alarm(0)


def _too_long(number: int, frame: object) -> None:
    raise TooLong


def main() -> int:
    """Try the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=1, help="try every N-th case of each group")
    parser.add_argument("--failures", action="store_true", help="name every failure")
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _too_long)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        table = _table(Path(name), given.every, given.failures)
    _print(table)
    print(f"\n{time.monotonic() - started:.0f} s, eight commands per case")
    return int(any(counts["FAILURE"] for counts in table.values()))


def _table(folder: Path, every: int, name_failures: bool) -> dict[str, Counter[str]]:
    good = damaged_files.good_recording(folder)
    truth = call("report", good, "--json", "-").stdout
    groups: dict[str, list[Case]] = {}
    for case in damaged_files.cases(good.read_bytes()):
        groups.setdefault(case.group, []).append(case)
    table: dict[str, Counter[str]] = {}
    for group, cases in groups.items():
        for number, case in enumerate(cases[::every]):
            outcome, why = attempt(case, folder / f"{group}-{number}", good, truth)
            table.setdefault(group, Counter())[outcome] += 1
            if why and name_failures:
                print(f"{group}: {case.name}: {why}")
    return table


def _print(table: dict[str, Counter[str]]) -> None:
    print(f"| {'damage':22} | cases | {' | '.join(OUTCOMES)} |")
    print(f"|{'-' * 24}|{'-' * 7}|" + "|".join("-" * (len(name) + 2) for name in OUTCOMES) + "|")
    for group, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        cells = " | ".join(f"{counts[name]:{len(name)}}" for name in OUTCOMES)
        print(f"| {group:22} | {sum(counts.values()):5} | {cells} |")


if __name__ == "__main__":
    sys.exit(main())
