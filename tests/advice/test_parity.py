"""Parity by closed form: the mean paired difference against FP32's own spread."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precscope.advice.parity import compare, parity, under_test
from tests.support.runs import run, runs

FP32 = (1.0, 2.0, 3.0)


def shifted(by: float) -> tuple[float, ...]:
    return tuple(value + by for value in FP32)


def test_the_numbers_are_those_of_the_textbook() -> None:
    found = compare("final_loss", (5, 6, 7), FP32, (1.5, 2.0, 3.25))
    assert found.differences == (0.5, 0.0, 0.25)
    assert found.mean_difference == 0.25
    assert found.fp32_mean == 2.0
    assert found.fp32_range == 2.0
    assert found.fp32_sd == 1.0
    assert found.verdict == "parity"
    assert "0.25" in found.reason
    assert "3 seeds" in found.reason


@pytest.mark.parametrize(
    ("shift", "loss", "metric"),
    [
        (0.0, "parity", "parity"),
        (2.0, "parity", "parity"),
        (-2.0, "parity", "parity"),
        (2.5, "worse", "better"),
        (-2.5, "better", "worse"),
    ],
)
def test_the_spread_is_the_yardstick_and_direction_depends_on_the_number(
    shift: float, loss: str, metric: str
) -> None:
    seeds = (0, 1, 2)
    assert compare("final_loss", seeds, FP32, shifted(shift)).verdict == loss
    assert compare("accuracy", seeds, FP32, shifted(shift), True).verdict == metric


def test_the_difference_is_paired_so_the_seeds_own_differences_cancel() -> None:
    in_order = compare("final_loss", (0, 1, 2), FP32, shifted(0.125))
    assert set(in_order.differences) == {0.125}


@pytest.mark.parametrize(
    ("fp32", "recipe", "word"),
    [
        ((), (), "no seed"),
        ((1.0,), (1.0,), "one seed"),
        ((1.0,), (9.0,), "one seed"),
        ((1.0, 1.0), (1.0, 1.25), "spread over 2 seeds is zero"),
    ],
)
def test_without_a_yardstick_nothing_can_be_told(
    fp32: tuple[float, ...], recipe: tuple[float, ...], word: str
) -> None:
    found = compare("final_loss", range(len(fp32)), fp32, recipe)
    assert found.verdict == "unknown"
    assert found.reason.startswith("cannot tell")
    assert word in found.reason


def test_equal_runs_are_at_parity_even_without_a_spread() -> None:
    assert compare("final_loss", (0, 1), (1.0, 1.0), (1.0, 1.0)).verdict == "parity"


whole = st.lists(st.integers(-100, 100), min_size=2, max_size=6)


@given(fp32=whole, recipe=whole, by=st.integers(-50, 50), log2=st.integers(-8, 8))
def test_the_verdict_knows_neither_the_unit_nor_the_origin_of_the_loss(
    fp32: list[int], recipe: list[int], by: int, log2: int
) -> None:
    count = min(len(fp32), len(recipe))
    mine, theirs = ([float(v) for v in values[:count]] for values in (recipe, fp32))
    scaled = [math.ldexp(v + by, log2) for v in theirs]
    moved = compare("final_loss", range(count), scaled, [math.ldexp(v + by, log2) for v in mine])
    assert moved.verdict == compare("final_loss", range(count), theirs, mine).verdict


@given(fp32=whole, difference=st.integers(-100, 100))
def test_a_loss_that_is_worse_is_a_metric_that_is_better(fp32: list[int], difference: int) -> None:
    theirs = [float(v) for v in fp32]
    mine = [v + difference for v in theirs]
    seeds = range(len(fp32))
    opposite = {"worse": "better", "better": "worse"}
    loss = compare("final_loss", seeds, theirs, mine).verdict
    metric = compare("accuracy", seeds, theirs, mine, higher_is_better=True).verdict
    assert metric == opposite.get(loss, loss)


def test_runs_are_paired_by_seed_and_each_seed_counts_once() -> None:
    stored = [
        run("fp32", 1.0, 4), run("advised", 1.5, 9), run("fp32", 3.0, 9), run("advised", 2.0, 4),
        run("fp32", 99.0, 4), run("advised", 5.0, 11),
    ]  # fmt: skip
    found = parity(stored)
    assert found is not None
    assert found.loss.seeds == (4, 9)
    assert found.loss.differences == (1.0, -1.5)


def test_a_recipe_that_diverges_where_fp32_does_not_is_worse() -> None:
    found = parity(runs(fp32=[1.0, 2.0, 3.0], advised=[1.0, None, 3.0]))
    assert found is not None
    assert found.verdict == "worse"
    assert found.diverged_seeds == (1,)
    assert "seed 1" in found.reason
    assert found.loss.seeds == (0, 2)


def test_a_seed_on_which_fp32_diverges_is_no_yardstick() -> None:
    found = parity(runs(fp32=[1.0, None, 3.0], advised=[1.5, None, 3.5]))
    assert found is not None
    assert found.verdict == "parity"
    assert found.loss.seeds == (0, 2)
    assert found.diverged_seeds == ()


def test_metrics_count_where_every_run_has_them() -> None:
    stored = [
        run("fp32", 1.0, 0, metrics={"accuracy": 0.5, "odd": 1.0}),
        run("advised", 1.0, 0, metrics={"accuracy": 0.25, "odd": None}),
        run("fp32", 2.0, 1, metrics={"accuracy": 0.75, "odd": 1.0}),
        run("advised", 2.0, 1, metrics={"accuracy": 0.25}),
    ]
    found = parity(stored)
    assert found is not None
    assert [metric.name for metric in found.metrics] == ["accuracy"]
    assert found.metrics[0].mean_difference == -0.375
    assert found.metrics[0].verdict == "worse"
    assert found.verdict == "parity"


def test_the_advised_recipe_is_the_one_under_test_else_the_first_other() -> None:
    assert under_test(runs(fp32=[1.0], paper=[1.0], advised=[1.0])) == "advised"
    assert under_test(runs(fp32=[1.0], paper=[1.0], bf16=[1.0])) == "paper"
    assert under_test(runs(fp32=[1.0])) is None
    assert parity(runs(fp32=[1.0])) is None
    assert parity(runs(advised=[1.0])) is None
