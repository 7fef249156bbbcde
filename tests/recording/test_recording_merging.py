from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from precscope.errors import RecordingError
from precscope.facts import Site, Window
from precscope.recording import Recording
from tests.recording import samples

A, B, C = (samples.site(name) for name in "abc")


def rank(sites: list[Site], seeds: dict[int, list[int]], **facts: object) -> Recording:
    """A Recording with one window per step and site; ``seeds`` per site id, one per step."""
    windows = {
        site_id: [samples.window(step, seed) for step, seed in enumerate(found)]
        for site_id, found in seeds.items()
    }
    return Recording.from_facts(sites=sites, windows=windows, **facts)  # type: ignore[arg-type]


def assert_equal_windows(found: list[Window], expected: list[Window]) -> None:
    assert [(w.first_step, w.last_step, w.observations) for w in found] == [
        (w.first_step, w.last_step, w.observations) for w in expected
    ]
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.histogram.counts, b.histogram.counts)
        assert np.array_equal(a.histogram.powers, b.histogram.powers)
        assert (a.histogram.zeros, a.histogram.nans) == (b.histogram.zeros, b.histogram.nans)
        assert (a.histogram.amax, a.histogram.sum_abs) == (b.histogram.amax, b.histogram.sum_abs)


def test_ranks_add_up_to_what_one_process_would_have_recorded() -> None:
    parts = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    merged = Recording.merge([rank([A], {0: seeds}) for seeds in parts])
    single = [
        Window(
            step,
            step,
            3,
            samples.histogram(x).merged(samples.histogram(y)).merged(samples.histogram(z)),
        )
        for step, (x, y, z) in enumerate(zip(*parts, strict=True))
    ]
    assert_equal_windows(merged.windows(0), single)
    assert merged.meta["ranks"] == 3


def test_the_order_of_ranks_does_not_change_a_count() -> None:
    ranks = [rank([A, B], {0: [1, 2], 1: [3]}), rank([B, A], {0: [4], 1: [5, 6]})]
    there, back = Recording.merge(ranks), Recording.merge(ranks[::-1])
    for name in "ab":
        one, other = (
            next(r.histogram(i) for i, s in enumerate(r.sites) if s.name == name)
            for r in (there, back)
        )
        assert np.array_equal(one.counts, other.counts)


def test_sites_match_by_name_and_kind_and_keep_their_gradients() -> None:
    weight = replace(A, kind="weight")
    first = rank([A, B], {0: [1], 1: [2]})
    record = replace(samples.step(0, 8.0), gradient_amax_site=1)
    second = rank([weight, B, C], {0: [3], 1: [4]}, steps=[record])
    merged = Recording.merge([first, second])
    assert merged.sites == (A, B, weight, C)
    assert merged.steps[0].gradient_amax_site == 1
    expected = samples.histogram(2).merged(samples.histogram(4))
    assert np.array_equal(merged.histogram(1).counts, expected.counts)
    assert merged.histogram(3).total == 0


def test_an_autocast_dtype_measured_on_any_rank_is_kept() -> None:
    merged = Recording.merge([rank([A], {}), rank([replace(A, autocast_dtype="float16")], {})])
    assert merged.sites[0].autocast_dtype == "float16"


def test_windows_over_different_steps_stay_side_by_side_in_order() -> None:
    first = Recording.from_facts(
        sites=[A], windows={0: [samples.window(0, 1), samples.window(5, 2)]}
    )
    second = Recording.from_facts(sites=[A], windows={0: [samples.window(0, 3, steps=4)]})
    merged = Recording.merge([first, second])
    assert [(w.first_step, w.last_step) for w in merged.windows(0)] == [(0, 0), (0, 3), (5, 5)]
    total = sum(samples.histogram(seed).total for seed in (1, 2, 3))
    assert merged.histogram(0).total == total


def test_a_step_keeps_its_largest_gradient_and_the_mean_loss() -> None:
    ranks = [
        Recording.from_facts(steps=[samples.step(0, 1.0, 2.0), samples.step(2, 5.0, None)]),
        Recording.from_facts(steps=[samples.step(0, 3.0, 4.0), samples.step(1, 1.0, 1.0)]),
    ]
    merged = Recording.merge(ranks).steps
    assert [(s.step, s.gradient_amax, s.loss) for s in merged] == [
        (0, 3.0, 3.0),
        (1, 1.0, 1.0),
        (2, 5.0, None),
    ]


@pytest.mark.parametrize("losses", [(1.0, math.nan), (math.inf, -math.inf)])
def test_a_loss_that_is_lost_on_one_rank_is_seen(losses: tuple[float, float]) -> None:
    ranks = [Recording.from_facts(steps=[samples.step(0, 1.0, loss)]) for loss in losses]
    loss = Recording.merge(ranks).steps[0].loss
    assert loss is not None
    assert math.isnan(loss)


def test_updates_of_a_replicated_parameter_count_once() -> None:
    both = {"w": [samples.update(0, "w")]}
    other = {"w": [samples.update(0, "w", size=9)], "v": [samples.update(0, "v")]}
    merged = Recording.merge([Recording.from_facts(updates=u) for u in (both, other)])
    assert merged.updates == {"w": [samples.update(0, "w")], "v": [samples.update(0, "v")]}


def test_meta_and_documents_come_from_the_first_rank_that_has_them() -> None:
    ranks = [
        Recording.from_facts(meta={"rank": 0}, documents={"coverage": 1}),
        Recording.from_facts(meta={"rank": 1}, documents={"coverage": 2, "timing": 3}),
    ]
    merged = Recording.merge(ranks)
    assert merged.meta == {"rank": 0, "ranks": 2}
    assert (merged.document("coverage"), merged.document("timing")) == (1, 3)


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(RecordingError, match="nothing to merge"):
        Recording.merge([])


def test_an_unknown_site_is_an_error() -> None:
    with pytest.raises(RecordingError, match="no site 3"):
        Recording.from_facts(sites=[A]).windows(3)
