"""What keeps a Recording small: neighbours in time merge, so that every count is conserved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from typing import TypeVar

from precscope.facts import RetentionSums, StepRecord, UpdateWindow, Window

Span = tuple[int, int]
"""First and last step of a window."""

_Timed = TypeVar("_Timed", Window, UpdateWindow)


def merge_windows(earlier: Window, later: Window) -> Window:
    """Both windows as one; exact in every count."""
    return Window(
        first_step=min(earlier.first_step, later.first_step),
        last_step=max(earlier.last_step, later.last_step),
        observations=earlier.observations + later.observations,
        histogram=earlier.histogram.merged(later.histogram),
    )


def merge_updates(earlier: UpdateWindow, later: UpdateWindow) -> UpdateWindow:
    """Both windows of one parameter as one; sums add per update factor.

    ``accumulated`` adds too: it then holds the sums of several shorter accumulations, which
    makes the merged value a lower bound on the loss over the whole window.
    """
    both = (earlier, later)
    return UpdateWindow(
        parameter=earlier.parameter,
        first_step=min(update.first_step for update in both),
        last_step=max(update.last_step for update in both),
        steps=earlier.steps + later.steps,
        sampled=max(update.sampled for update in both),
        learning_rate=later.learning_rate,
        below_2_24=earlier.below_2_24 + later.below_2_24,
        ratio_above_2048=earlier.ratio_above_2048 + later.ratio_above_2048,
        single=_add_by_factor(earlier.single, later.single),
        accumulated=_add_optional(earlier.accumulated, later.accumulated),
    )


def _add_sums(a: RetentionSums, b: RetentionSums) -> RetentionSums:
    return RetentionSums(
        update_factor=a.update_factor,
        dot=a.dot + b.dot,
        update_squares=a.update_squares + b.update_squares,
        noise_squares=a.noise_squares + b.noise_squares,
        lost=a.lost + b.lost,
        nonzero=a.nonzero + b.nonzero,
    )


def _add_optional(a: RetentionSums | None, b: RetentionSums | None) -> RetentionSums | None:
    if a is None or b is None:
        return a or b
    return _add_sums(a, b)


def _add_by_factor(
    earlier: Sequence[RetentionSums], later: Sequence[RetentionSums]
) -> tuple[RetentionSums, ...]:
    total = {sums.update_factor: sums for sums in earlier}
    for sums in later:
        known = total.get(sums.update_factor)
        total[sums.update_factor] = _add_sums(known, sums) if known else sums
    return tuple(total.values())


def tightest_groups(spans: Sequence[Span], limit: int) -> list[range]:
    """Split windows in order of time into at most ``limit`` runs of neighbours.

    The two neighbours that together cover the fewest steps merge first, the earliest of equals:
    one at a time as windows arrive, so that the resolution halves gradually, evenly over the
    run, and no single flush has to rewrite everything.
    """
    groups = [range(index, index + 1) for index in range(len(spans))]
    while len(groups) > max(limit, 1):
        reach = [spans[b[-1]][1] - spans[a[0]][0] for a, b in pairwise(groups)]
        first = reach.index(min(reach))
        groups[first : first + 2] = [range(groups[first][0], groups[first + 1][-1] + 1)]
    return groups


def thin_windows(
    windows: Sequence[_Timed], limit: int, merge: Callable[[_Timed, _Timed], _Timed]
) -> list[_Timed]:
    """At most ``limit`` windows that hold everything the given ones hold."""
    spans = [(window.first_step, window.last_step) for window in windows]
    groups = tightest_groups(spans, limit)
    return [reduce(merge, (windows[index] for index in group)) for group in groups]


def thin_steps(steps: Sequence[StepRecord], limit: int) -> list[StepRecord]:
    """Every second step record, as often as it takes to have at most ``limit``.

    Of two neighbours the one with the larger ``gradient_amax`` stays, because it bounds the
    loss scale; the last record always stays, because it says where the run ended.
    """
    kept = list(steps)
    while len(kept) > max(limit, 1):
        kept = [*_larger_of_pairs(kept[:-1]), kept[-1]] if len(kept) > 2 else kept[-1:]
    return kept


def _larger_of_pairs(steps: Sequence[StepRecord]) -> Iterator[StepRecord]:
    for index in range(0, len(steps), 2):
        yield max(steps[index : index + 2], key=lambda record: record.gradient_amax)
