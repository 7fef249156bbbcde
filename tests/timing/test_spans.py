"""Nested and overlapping spans: total, own time, gaps."""

from __future__ import annotations

import pytest

from precscope.timing.spans import Span, merged, take_apart, uncovered


def test_own_time_leaves_out_what_is_inside_and_gaps_belong_to_nobody() -> None:
    found = take_apart(
        20.0,
        [
            Span("", "forward", 1.0, 9.0),
            Span("block", "forward", 2.0, 8.0),
            Span("block.a", "forward", 3.0, 5.0),
            Span("block.b", "forward", 6.0, 7.0),
            Span("", "backward", 10.0, 16.0),
            Span("block", "backward", 11.0, 16.0),
        ],
    )
    root, block = found.modules[""], found.modules["block"]
    assert (root.forward_ms, root.backward_ms, root.self_ms) == (8.0, 6.0, 2.0 + 1.0)
    assert (block.forward_ms, block.backward_ms, block.self_ms) == (6.0, 5.0, 3.0 + 5.0)
    assert found.modules["block.a"].self_ms == 2.0
    assert found.modules["block.a"].backward_ms is None
    assert found.gap_ms == pytest.approx(20.0 - 14.0)


def test_own_times_and_gap_add_up_to_the_step() -> None:
    spans = [
        Span("", "forward", 0.0, 10.0),
        Span("a", "forward", 1.0, 4.0),
        Span("b", "forward", 5.0, 9.0),
        Span("b.c", "forward", 5.5, 8.5),
    ]
    found = take_apart(12.0, spans)
    assert sum(m.self_ms for m in found.modules.values()) + found.gap_ms == pytest.approx(12.0)


def test_a_module_called_twice_has_both_calls() -> None:
    found = take_apart(9.0, [Span("a", "forward", 0.0, 2.0), Span("a", "forward", 5.0, 6.0)])
    assert (found.modules["a"].forward_ms, found.modules["a"].calls) == (3.0, 2)


def test_names_that_only_begin_alike_are_not_inside_each_other() -> None:
    found = take_apart(9.0, [Span("conv", "forward", 0.0, 4.0), Span("conv1", "forward", 1.0, 2.0)])
    assert found.modules["conv"].self_ms == 4.0


def test_recomputation_is_no_second_forward() -> None:
    found = take_apart(
        9.0, [Span("a", "forward", 0.0, 1.0), Span("a", "recomputation", 4.0, 6.0)]
    ).modules["a"]
    assert (found.forward_ms, found.recomputed_ms, found.calls) == (1.0, 2.0, 1)


def test_union_and_what_is_outside_it() -> None:
    assert merged([(3, 4), (0, 1), (0.5, 2), (2, 2.5), (7, 7)]) == [(0, 2.5), (3, 4)]
    assert uncovered((0, 5), [(0, 2.5), (3, 4)]) == 1.5
    assert uncovered((2.6, 2.9), [(0, 2.5), (3, 4)]) == pytest.approx(0.3)
