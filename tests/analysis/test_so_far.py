"""What the probes know without the file is what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precscope.analysis.so_far import WAITING, SoFar, total
from precscope.facts import Site, StepRecord, Window
from precscope.histogram import MIN_EXPONENT, ExponentHistogram, no_counts
from precscope.monitor.sink import NullSink
from precscope.recording import Recording, RecordingWriter
from precscope.recording.schema import MAX_STEPS

SITE = Site("body.0", "activation_gradient", (4, 8), "float32", "float16", "Linear", 0)


def histogram(seed: int) -> ExponentHistogram:
    stream = np.random.default_rng(seed)
    counts = no_counts()
    places = stream.integers(-40, 10, 12) - MIN_EXPONENT
    counts[places] = stream.integers(1, 1000, 12)
    return ExponentHistogram(
        counts=counts,
        powers=counts // 3,
        zeros=seed,
        infinities=seed % 2,
        nans=seed % 3,
        amax=float(stream.random()),
        sum_abs=float(stream.random()),
        sum_squares=float(stream.random()),
    )


def facts_of(found: ExponentHistogram) -> dict[str, Any]:
    apart = ("zeros", "infinities", "nans", "amax")
    sums = {name: pytest.approx(getattr(found, name)) for name in ("sum_abs", "sum_squares")}
    counts = {"counts": found.counts.tolist(), "powers": found.powers.tolist()}
    return {**counts, **{name: getattr(found, name) for name in apart}, **sums}


@pytest.mark.parametrize("windows", [0, 1, 2, WAITING, WAITING + 1, 3 * WAITING])
def test_statistics_and_steps_are_those_of_the_file(tmp_path: Path, windows: int) -> None:
    path = tmp_path / "run.precscope"
    with RecordingWriter(path, {}) as writer:
        so_far = SoFar(writer)
        site = so_far.add_site(SITE)
        for number in range(windows):
            so_far.add_window(site, Window(number, number, 1, histogram(number)))
            so_far.add_step(StepRecord(number, 1.0, 0.5 + number, site, 0.0))
        so_far.flush()
        known, stored = so_far.recording(), Recording.open_own(path)
    assert known.sites == stored.sites
    assert known.steps == stored.steps
    assert facts_of(known.histogram(site)) == facts_of(stored.histogram(site))


def test_asking_at_two_stages_counts_every_window_once() -> None:
    so_far = SoFar(NullSink())
    site = so_far.add_site(SITE)
    parts = [histogram(number) for number in range(5)]
    for number, part in enumerate(parts):
        so_far.add_window(site, Window(number, number, 1, part))
        so_far.recording().histogram(site)
    assert facts_of(so_far.recording().histogram(site)) == facts_of(total(parts))
    assert parts[0].counts.tolist() == histogram(0).counts.tolist()


def test_a_long_run_keeps_a_bounded_number_of_steps() -> None:
    so_far = SoFar(NullSink())
    for step in range(2 * MAX_STEPS):
        so_far.add_step(StepRecord(step, 1.0, float(step == 77), None, 0.0))
    so_far.flush()
    steps = so_far.recording().steps
    assert len(steps) <= MAX_STEPS
    assert max(steps, key=lambda record: record.gradient_amax).step == 77
