from __future__ import annotations

import math

import pytest

from precscope.training import LossScaling
from precscope.training.scaling import SEARCH_STEPS, LossScaler, growth_interval

TIGHT = math.log2(65504) - 3.0
"""An amax with 3 bits of headroom: enough for the slow rule, too little for the quick one."""


def scaler(run_length: int | None = None, **options: int) -> LossScaler:
    return LossScaler(LossScaling(kind="dynamic", **{"log2_initial": 16, **options}), run_length)


def clean(subject: LossScaler, steps: int, log2_amax: float | None = TIGHT) -> None:
    for _ in range(steps):
        subject.update(log2_amax, None)


def test_each_overflow_of_the_search_halves_the_scale_down_to_the_floor() -> None:
    subject = scaler(log2_min=4)
    for _ in range(20):
        subject.update(None, "head.weight")
    assert subject.log2_scale == 4
    assert len(subject.changes) == 12
    first = subject.changes[0]
    assert (first.step, first.log2_old, first.log2_new) == (0, 16, 15)
    assert (first.reason, first.parameter) == ("overflow", "head.weight")


def test_after_the_search_one_overflow_is_forgiven_and_the_second_is_not() -> None:
    subject = scaler()
    clean(subject, SEARCH_STEPS)
    subject.update(None, "w")
    assert subject.log2_scale == 16
    subject.update(None, "w")
    assert subject.log2_scale == 15
    subject.update(None, "w")
    assert subject.log2_scale == 14


def test_growth_restores_forgiveness() -> None:
    subject = scaler(growth_interval=SEARCH_STEPS)
    clean(subject, SEARCH_STEPS)
    subject.update(None, "w")
    clean(subject, SEARCH_STEPS)
    assert subject.log2_scale == 18
    subject.update(None, "w")
    assert subject.log2_scale == 18


@pytest.mark.parametrize(
    ("run_length", "expected"), [(None, 2000), (100, 10), (5, 1), (20_000, 2000), (10**6, 2000)]
)
def test_the_growth_interval_suits_the_run(run_length: int | None, expected: int) -> None:
    assert growth_interval(LossScaling(kind="dynamic"), run_length) == expected


def test_the_scale_doubles_after_the_interval_and_stops_at_the_ceiling() -> None:
    subject = scaler(run_length=200, log2_max=18)
    clean(subject, 19)
    assert subject.log2_scale == 16
    clean(subject, 1)
    assert subject.log2_scale == 17
    clean(subject, 100)
    assert subject.log2_scale == 18
    assert [change.reason for change in subject.changes] == ["interval", "interval"]


def test_plenty_of_headroom_doubles_the_scale_every_ten_steps() -> None:
    subject = scaler(log2_initial=0)
    clean(subject, 30, log2_amax=0.0)
    assert subject.log2_scale == 3
    assert {change.reason for change in subject.changes} == {"headroom"}


def test_one_tight_step_interrupts_quick_growth() -> None:
    subject = scaler(log2_initial=0)
    clean(subject, 9, log2_amax=0.0)
    clean(subject, 1)
    clean(subject, 9, log2_amax=0.0)
    assert subject.log2_scale == 0


def test_all_zero_gradients_are_no_headroom_but_do_not_stop_slow_growth() -> None:
    subject = scaler(run_length=200)
    clean(subject, 19, log2_amax=None)
    assert subject.log2_scale == 16
    clean(subject, 1, log2_amax=None)
    assert subject.log2_scale == 17


def test_the_scale_does_not_double_into_an_overflow_that_it_can_foresee() -> None:
    subject = scaler(run_length=100)
    clean(subject, 200, log2_amax=math.log2(65504) - 1.5)
    assert subject.changes == []


def test_quick_growth_never_returns_to_a_scale_that_overflowed() -> None:
    subject = scaler(log2_initial=4)
    subject.update(None, "w")
    assert subject.log2_scale == 3
    clean(subject, 500, log2_amax=0.0)
    assert subject.log2_scale == 3


def test_each_vain_return_to_a_scale_doubles_the_wait() -> None:
    subject = scaler(run_length=100)
    subject.update(None, "w")
    waits = []
    for _ in range(5):
        steps = 0
        while subject.log2_scale == 15:
            clean(subject, 1)
            steps += 1
        waits.append(steps)
        while subject.log2_scale == 16:
            subject.update(None, "w")
    assert waits == [10, 20, 40, 80, 80]


def test_a_static_scale_never_moves() -> None:
    subject = LossScaler(LossScaling(kind="static", log2_initial=7), run_length=10)
    clean(subject, 50, log2_amax=-20.0)
    for _ in range(5):
        subject.update(None, "w")
    assert subject.log2_scale == 7
    assert subject.changes == []
