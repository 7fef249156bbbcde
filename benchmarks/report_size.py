"""Size of the HTML report and time to its first picture, for 10, 500 and 2,000 sites.

    python benchmarks/report_size.py [--sites 10 500 2000] [--rounds 5] [--json FILE]

The sites hold real exponent histograms: of normal, heavy-tailed and mostly-zero values at scales
that shrink with depth. The page is opened from its file in headless Chromium, once to warm the disk
and then ``rounds`` times; times are the browser's own performance entries, counted from the start
of navigation: the first text, the first chart (the map of all sites), and the last chart.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import torch

# The browser's driver and the result that every section has something to show of.
sys.path.insert(0, str(Path(__file__).parents[1]))

from precscope.environment import device_name
from precscope.formats import FP16
from precscope.histogram import MIN_EXPONENT, ExponentHistogram
from precscope.kernels import observe
from precscope.kernels.row import new_rows, to_histogram
from precscope_reports import html
from tests.reports.chromium import Chromium, executable
from tests.reports.full_result import full_result

ENTRIES = {
    "first_text_ms": "first-contentful-paint",
    "first_picture_ms": "precscope:first-picture",
    "last_picture_ms": "precscope:drawn",
}
WINDOWS = 128
VALUES = 20_000


def values(index: int, sites: int) -> torch.Tensor:
    """Of three kinds in turn; gradients lose up to 2^-20 of their size with depth."""
    drawn = torch.randn(VALUES)
    if index % 3 == 1:
        drawn = drawn * torch.exp2(4 * torch.randn(VALUES))
    if index % 3 == 2:
        drawn = torch.relu(drawn - 1.5)
    return drawn * 2.0 ** (-4 - 20 * index / sites)


def histogram_of(tensor: torch.Tensor) -> ExponentHistogram:
    """As a monitor counts it."""
    row = new_rows(1)[0]
    observe(tensor, row)
    return to_histogram(row)


def realistic(sites: int) -> dict[str, Any]:
    """A result of so many sites, each with a real histogram and as many windows as are kept."""
    torch.manual_seed(0)
    result = full_result(sites)
    for index, site in enumerate(result["sites"]):
        found = histogram_of(values(index, sites))
        first, last = found.exponent_range or (0, -1)
        inside = slice(first - MIN_EXPONENT, last - MIN_EXPONENT + 1)
        flushed, lost = found.flushed_fraction(FP16), found.l1_flushed_fraction(FP16)
        site |= {
            "amax": found.amax, "rms": found.rms, "flushed_fp16": flushed, "l1_flushed_fp16": lost,
            "zero_fraction": found.zeros / found.total,
            "subnormal_fp16": found.subnormal_fraction(FP16),
            "overflow_fp16": found.overflow_fraction(FP16),
        }  # fmt: skip
        site["histogram"] = {
            "first_exponent": first, "counts": found.counts[inside].tolist(),
            "powers": found.powers[inside].tolist(), "zeros": found.zeros, "infinities": 0,
            "nans": 0,
        }  # fmt: skip
        site["windows"] = list(windows(found.amax, flushed, lost))
    return result


def windows(amax: float, flushed: float, lost: float) -> Iterator[dict[str, Any]]:
    """A slow walk around the values of the whole run."""
    for at, step in enumerate((1 + 0.1 * torch.randn(WINDOWS)).tolist()):
        yield {
            "first_step": 10 * at, "last_step": 10 * at + 9, "amax": amax * abs(step),
            "flushed_fp16": min(1.0, flushed * abs(step)),
            "l1_flushed_fp16": min(1.0, lost * abs(step)),
        }  # fmt: skip


def entries_ms(browser: Chromium, page: Path) -> dict[str, float]:
    """One opening of the page: the start of each performance entry."""
    browser.open(page)
    return {
        key: float(browser.evaluate(f"performance.getEntriesByName({name!r})[0].startTime"))
        for key, name in ENTRIES.items()
    }


def measure(browser: Chromium, sites: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Size, and the median and the slowest of every time."""
    page = html.write(realistic(sites), folder / f"{sites}.html")
    entries_ms(browser, page)
    opened = [entries_ms(browser, page) for _ in range(rounds)]
    times = {key: [one[key] for one in opened] for key in ENTRIES}
    return {
        "sites": sites,
        "size_bytes": page.stat().st_size,
        **{key: median(found) for key, found in times.items()},
        **{f"{key}_slowest": max(found) for key, found in times.items()},
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": date.today().isoformat(),
        "cpu": device_name(torch.device("cpu")),
        "python": platform.python_version(),
        "browser": Path(executable() or "none").name,
    }


def table(results: list[dict[str, Any]]) -> str:
    """The results as markdown."""
    lines = [
        "| sites | size | first text | first picture | slowest | all pictures |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['sites']:,} | {r['size_bytes'] / 1e6:.2f} MB | {r['first_text_ms']:.0f} ms "
        f"| {r['first_picture_ms']:.0f} ms | {r['first_picture_ms_slowest']:.0f} ms "
        f"| {r['last_picture_ms']:.0f} ms |"
        for r in results
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[10, 500, 2000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if executable() is None:
        sys.exit("no Chromium here: install chromium to time the report")
    with tempfile.TemporaryDirectory() as folder:
        browser = Chromium(Path(folder) / "profile")
        try:
            results = [
                measure(browser, sites, options.rounds, Path(folder)) for sites in options.sites
            ]
        finally:
            browser.close()
    where = machine()
    print(" · ".join(f"{name} {value}" for name, value in where.items()), end="\n\n")
    print(table(results))
    if options.json:
        found = {"machine": where, "rounds": options.rounds, "results": results}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
