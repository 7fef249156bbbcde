from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precscope.advice.blame import breaks
from precscope.errors import RecordingError
from precscope.facts import Site, Window
from precscope.recording import Recording, RecordingWriter
from precscope.recording.ranks import rank_path
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
    merged = Recording.merge(
        [
            Recording.from_facts(updates=both),
            Recording.from_facts(updates=other, documents={"replicas": {"w": 1, "v": 1}}),
        ]
    )
    assert merged.updates == {"w": [samples.update(0, "w")], "v": [samples.update(0, "v")]}


def test_update_samples_of_shards_add_up() -> None:
    ranks = [Recording.from_facts(updates={"w": [samples.update(0, "w")]}) for _ in range(3)]
    (merged,) = Recording.merge(ranks).updates["w"]
    one = samples.update(0, "w")
    assert (merged.steps, merged.sampled) == (one.steps, 3 * one.sampled)
    assert merged.single[0].dot == 3 * one.single[0].dot


@pytest.mark.parametrize(
    ("copies", "parts"),
    [
        ([0, 1, 2], [0]),  # DDP
        ([1, 2, 3], [0]),  # DDP, the first rank is missing
        ([0, 0, 1, 1], [0, 1]),  # two shards, each twice
        ([0, 0, 0], [0, 1, 2]),  # FSDP
    ],
)
def test_of_copies_one_counts_and_shards_add_up(copies: list[int], parts: list[int]) -> None:
    weight = replace(samples.site("w"), kind="weight")
    ranks = [
        rank([weight, A], {0: [i], 1: [i]}, documents={"replicas": {"w": index}})
        for i, index in enumerate(copies)
    ]
    merged = Recording.merge(ranks)
    expected = Recording.merge([ranks[i] for i in parts])
    assert merged.histogram(0).total == expected.histogram(0).total
    assert merged.histogram(1).total == sum(r.histogram(1).total for r in ranks)


def test_copies_of_a_model_among_several_are_known_by_its_name() -> None:
    weight = replace(samples.site("G.w"), kind="weight")
    documents = {"replicas G": {"w": 1}}
    ranks = [rank([weight], {0: [1]}), rank([weight], {0: [2]}, documents=documents)]
    assert Recording.merge(ranks).histogram(0).total == ranks[0].histogram(0).total


def mark(step: int, *sites: tuple[str, str, int], parameter: str | None = None) -> dict[str, Any]:
    places = [{"name": name, "kind": kind, "count": count} for name, kind, count in sites]
    before = [{"name": sites[0][0], "kind": sites[0][1], "amax": [[step - 1, 2.0]]}]
    return {
        "step": step, "log2_scale": 0.0, "skipped": False, "loss_finite": not places[0]["count"],
        "input": 0, "sites": places, "parameter": parameter, "before": before,
    }  # fmt: skip


def test_what_broke_on_one_rank_only_is_told_of_the_whole_run() -> None:
    sites = [
        replace(A, order=0),
        replace(B, kind="weight_gradient", order=2),
        replace(C, kind="activation_gradient", order=1),
    ]
    # The gradient is bad everywhere, for it was reduced; where it came from, the second rank saw.
    follower = mark(5, ("b", "weight_gradient", 4), parameter="b")
    origin = mark(
        5, ("a", "activation", 1), ("c", "activation_gradient", 2), ("b", "weight_gradient", 4)
    )
    ranks = [
        rank(sites, {0: [1]}, documents={"non_finite": {"count": 1, "skipped": 0, "steps": [m]}})
        for m in (follower, origin)
    ]
    document = Recording.merge(ranks).document("non_finite")
    assert document["count"] == 1
    (joined,) = document["steps"]
    assert [(p["name"], p["count"]) for p in joined["sites"]] == [("a", 1), ("c", 2), ("b", 8)]
    assert joined["parameter"] == "b"
    (broken,) = breaks(document)
    assert (broken.origin, broken.site, broken.upstream) == ("forward", "a", "c")
    assert broken.amax_before == 2.0


def test_documents_of_another_form_are_left_as_they_are() -> None:
    strange = [{"steps": 3}, {"steps": [{}]}]
    ranks = [Recording.from_facts(documents={"non_finite": s, "coverage": []}) for s in strange]
    assert Recording.merge(ranks).document("non_finite") == strange[0]


def write_ranks(folder: Path, *sizes: int) -> None:
    for number, size in enumerate(sizes):
        meta = {"rank": number, "world_size": size}
        with RecordingWriter(folder / f"run.rank{number}.precscope", meta) as writer:
            writer.add_window(writer.add_site(A), samples.window(0, number))


def test_the_ranks_of_a_run_are_found_by_its_name_and_by_its_folder(tmp_path: Path) -> None:
    write_ranks(tmp_path, *[11] * 11)
    for path in (tmp_path / "run.precscope", tmp_path):
        found = Recording.open(path)
        assert found.meta["ranks"] == 11
        assert found.is_complete
    assert "ranks" not in Recording.open(tmp_path / "run.rank7.precscope").meta
    assert (tmp_path / "run.rank7.precscope") == rank_path(tmp_path / "run.precscope", 7)


def test_a_rank_of_another_run_is_left_out_and_a_missing_one_is_noticed(tmp_path: Path) -> None:
    write_ranks(tmp_path, 2, 2, 4, 4)
    assert Recording.open(tmp_path).meta["ranks"] == 2
    (tmp_path / "run.rank1.precscope").unlink()
    left = Recording.open(tmp_path)
    assert left.meta["ranks"] == 1
    assert not left.is_complete


def test_a_folder_of_several_runs_asks_for_a_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        RecordingWriter(tmp_path / f"{name}.precscope", {}).close()
    with pytest.raises(RecordingError, match="2 Recordings of different runs: name one"):
        Recording.open(tmp_path)
    RecordingWriter(tmp_path / "run.precscope", {"title": "usual"}).close()
    assert Recording.open(tmp_path).meta == {"title": "usual"}


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
