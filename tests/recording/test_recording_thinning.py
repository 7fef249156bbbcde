from __future__ import annotations

from functools import reduce
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from precscope.facts import RetentionSums, StepRecord, UpdateWindow, Window
from precscope.recording import Recording, RecordingWriter, thinning
from precscope.recording.schema import MAX_STEPS, MAX_WINDOWS
from tests.recording import samples


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=40), st.integers(1, 9))
def test_groups_partition_the_windows_in_order(spans: list[tuple[int, int]], limit: int) -> None:
    in_order = sorted((first, first + length) for first, length in spans)
    groups = thinning.tightest_groups(in_order, limit)
    assert [index for group in groups for index in group] == list(range(len(spans)))
    assert len(groups) == min(limit, len(spans))


def test_the_tightest_neighbours_merge_first_and_the_earliest_of_equals() -> None:
    spans = [(0, 9), (10, 11), (12, 13), (14, 15)]
    assert thinning.tightest_groups(spans, 3) == [range(0, 1), range(1, 3), range(3, 4)]


def test_windows_arriving_one_by_one_keep_an_even_resolution() -> None:
    spans: list[thinning.Span] = []
    for step in range(1000):
        spans.append((step, step))
        groups = thinning.tightest_groups(spans, 16)
        spans = [(spans[group[0]][0], spans[group[-1]][1]) for group in groups]
    widths = [last - first + 1 for first, last in spans]
    assert sum(widths) == 1000
    assert max(widths) <= 2 * 1000 / 16 + 16


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_thinned_windows_hold_exactly_the_same_counts(seeds: list[int], limit: int) -> None:
    windows = [samples.window(step, seed) for step, seed in enumerate(seeds)]
    thinned = thinning.thin_windows(windows, limit, thinning.merge_windows)
    before, after = total(windows), total(thinned)
    assert len(thinned) <= limit
    assert np.array_equal(before.histogram.counts, after.histogram.counts)
    assert np.array_equal(before.histogram.powers, after.histogram.powers)
    assert (before.observations, before.last_step) == (after.observations, after.last_step)
    assert before.histogram.sum_squares == after.histogram.sum_squares


def total(windows: list[Window]) -> Window:
    return reduce(thinning.merge_windows, windows)


def test_merged_updates_add_their_sums_per_factor() -> None:
    early = samples.update(0)
    late = UpdateWindow("layer.weight", 5, 9, 5, 32, 1e-4, 1, 1, (samples.sums(0.1, 10),), None)
    merged = thinning.merge_updates(early, late)
    assert (merged.first_step, merged.last_step, merged.steps) == (0, 9, 6)
    assert merged.single == (samples.sums(1.0), samples.sums(0.1, 11))
    assert merged.accumulated == early.accumulated
    assert (merged.learning_rate, merged.sampled, merged.below_2_24) == (1e-4, 64, 6)


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=200), st.integers(1, 50))
def test_thinned_steps_keep_the_largest_gradient_and_the_last_step(
    amaxes: list[float], limit: int
) -> None:
    steps = [samples.step(index, amax) for index, amax in enumerate(amaxes)]
    thinned = thinning.thin_steps(steps, limit)
    assert 1 <= len(thinned) <= limit
    assert thinned[-1] == steps[-1]
    assert {record.step for record in thinned} <= {record.step for record in steps}
    if limit >= 2:
        assert max(record.gradient_amax for record in thinned) == max(amaxes)


def test_a_file_stays_bounded_and_conserves_every_count(tmp_path: Path) -> None:
    windows = [samples.window(step, step % 7) for step in range(MAX_WINDOWS + 45)]
    with RecordingWriter(tmp_path / "run.precscope", {}) as writer:
        site = writer.add_site(samples.site())
        for step, window in enumerate(windows):
            writer.add_window(site, window)
            writer.add_update(samples.update(step))
            if step % 5 == 0:
                writer.flush()
    recording = Recording.open(writer.path)
    expected = total(windows)
    assert len(recording.windows(site)) == MAX_WINDOWS
    assert np.array_equal(recording.histogram(site).counts, expected.histogram.counts)
    assert sum(window.observations for window in recording.windows(site)) == len(windows)
    spans = [(window.first_step, window.last_step) for window in recording.windows(site)]
    assert spans == sorted(spans)
    kept = recording.updates["layer.weight"]
    assert len(kept) == MAX_WINDOWS
    assert sum(update.steps for update in kept) == len(windows)
    assert add_up(kept) == samples.sums(1.0, len(windows))


def add_up(updates: list[UpdateWindow]) -> RetentionSums:
    return reduce(thinning.merge_updates, updates).single[0]


def test_what_waits_for_a_flush_is_bounded_too(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "run.precscope", {}) as writer:
        site = writer.add_site(samples.site())
        for step in range(MAX_WINDOWS + 40):
            writer.add_window(site, samples.window(step))
        assert len(writer._pending.windows.rows[site]) == MAX_WINDOWS
    observations = [w.observations for w in Recording.open(writer.path).windows(site)]
    assert sum(observations) == MAX_WINDOWS + 40


def test_step_records_are_thinned_to_a_bound(tmp_path: Path) -> None:
    steps = [samples.step(index, float(index % 100)) for index in range(MAX_STEPS + 600)]
    with RecordingWriter(tmp_path / "run.precscope", {}) as writer:
        for record in steps:
            writer.add_step(record)
            if record.step % 500 == 0:
                writer.flush()
    kept: list[StepRecord] = Recording.open(writer.path).steps
    assert MAX_STEPS // 2 <= len(kept) <= MAX_STEPS
    assert kept[-1] == steps[-1]
    assert {99.0} <= {record.gradient_amax for record in kept}
