"""Workloads whose right answer is known by construction, beside the answer that precscope gives.

    python benchmarks/known_answers.py                    # the whole table
    python benchmarks/known_answers.py --case NAME        # one case, with the argument for its answer
    python benchmarks/known_answers.py --json             # the same as JSON

Ends with status 1 if any answer is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.known_answers.claims import Case, Claim
from tests.known_answers.suite import CASES, by_name, run_case

WIDTHS = (44, 48, 32, 28)
"""Columns for the case or nothing, what is expected, what was found, the margin."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases asked for and print them; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    cases = [by_name(name) for name in options.case] or list(CASES)
    if options.json:
        entries = [_entry(case, run_case(case)) for case in cases]
        print(json.dumps(entries, indent=2))
        return 0 if all(entry["right"] for entry in entries) else 1
    return _print_table(cases, explained=bool(options.case))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME",
        choices=[case.name for case in CASES],
        help="run this case only; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _print_table(cases: Sequence[Case], explained: bool) -> int:
    print(_row("case", "expected", "found", "margin", "right"))
    wrong = []
    for case in cases:
        claims = run_case(case)
        for line in _lines(case, claims):
            print(line, flush=True)
        if explained:
            print(textwrap.fill(case.why, 100, initial_indent="  ", subsequent_indent="  "))
        if not all(claim.right for claim in claims):
            wrong.append(case.name)
    end = f"; wrong: {', '.join(wrong)}" if wrong else ""
    print(f"{len(cases) - len(wrong)} of {len(cases)} cases right{end}")
    return 1 if wrong else 0


def _lines(case: Case, claims: Sequence[Claim]) -> Iterator[str]:
    for index, claim in enumerate(claims):
        name = case.name if index == 0 else ""
        right = "yes" if claim.right else "NO"
        sign = "" if claim.expected[:1] in ("<", ">") else "= "
        yield _row(name, f"{claim.what} {sign}{claim.expected}", claim.found, claim.margin, right)


def _row(*cells: str) -> str:
    *shown, right = cells
    padded = [
        f"{cell if len(cell) <= width else cell[: width - 3] + '...':<{width}}"
        for cell, width in zip(shown, WIDTHS, strict=True)
    ]
    return "  ".join([*padded, right])


def _entry(case: Case, claims: Sequence[Claim]) -> dict[str, object]:
    return {
        "case": case.name,
        "why": case.why,
        "right": all(claim.right for claim in claims),
        "claims": [asdict(claim) for claim in claims],
    }


if __name__ == "__main__":
    sys.exit(main())
