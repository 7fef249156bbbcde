"""Recordings of several ranks as one, by exact addition."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby
from typing import Any

from precscope.facts import Site, SiteKind, StepRecord, UpdateWindow, Window
from precscope.recording.contents import Contents
from precscope.recording.series import WINDOWS
from precscope.recording.thinning import Span, merge_windows
from precscope.recording.values import Row

SiteKey = tuple[str, SiteKind]


def merge_contents(ranks: Sequence[Contents]) -> Contents:
    """All ranks as one run, in the order given.

    Sites match by name and kind. Windows over the same steps add; others stay side by side.
    """
    sites = _merge_sites(ranks)
    numbers = {_key(site): number for number, site in enumerate(sites)}
    return Contents(
        meta={**ranks[0].meta, "ranks": len(ranks)},
        sites=sites,
        windows=_merge_windows(ranks, numbers),
        steps=_merge_steps(ranks, numbers),
        updates=_merge_updates(ranks),
        documents=_first_of_each(rank.documents for rank in ranks),
        is_complete=all(rank.is_complete for rank in ranks),
    )


def _key(site: Site) -> SiteKey:
    return site.name, site.kind


def _merge_sites(ranks: Iterable[Contents]) -> tuple[Site, ...]:
    sites: dict[SiteKey, Site] = {}
    for site in (site for rank in ranks for site in rank.sites):
        known = sites.setdefault(_key(site), site)
        if known.autocast_dtype is None and site.autocast_dtype is not None:
            sites[_key(site)] = replace(known, autocast_dtype=site.autocast_dtype)
    return tuple(sites.values())


def _merge_windows(
    ranks: Iterable[Contents], numbers: Mapping[SiteKey, int]
) -> dict[int, list[Row]]:
    windows: defaultdict[int, list[Window]] = defaultdict(list)
    for rank in ranks:
        for site_id, rows in rank.windows.items():
            number = numbers[_key(rank.sites[site_id])]
            windows[number] += [WINDOWS.from_row(row) for row in rows]
    return {
        number: [WINDOWS.to_row(number, window) for window in _add_equal_spans(found)]
        for number, found in windows.items()
    }


def _span(window: Window) -> Span:
    return window.first_step, window.last_step


def _add_equal_spans(windows: Iterable[Window]) -> list[Window]:
    in_order = sorted(windows, key=_span)
    return [reduce(merge_windows, equal) for _, equal in groupby(in_order, key=_span)]


def _merge_steps(ranks: Iterable[Contents], numbers: Mapping[SiteKey, int]) -> list[StepRecord]:
    by_step: defaultdict[int, list[StepRecord]] = defaultdict(list)
    for rank in ranks:
        for record in rank.steps:
            by_step[record.step].append(_renumbered(record, rank.sites, numbers))
    return [_merge_step(by_step[step]) for step in sorted(by_step)]


def _renumbered(
    record: StepRecord, sites: Sequence[Site], numbers: Mapping[SiteKey, int]
) -> StepRecord:
    if record.gradient_amax_site is None:
        return record
    number = numbers[_key(sites[record.gradient_amax_site])]
    return replace(record, gradient_amax_site=number)


def _merge_step(records: Sequence[StepRecord]) -> StepRecord:
    """The record with the largest gradient, and the mean loss of the ranks that know theirs.

    Data-parallel training minimises that mean; NaN on any rank is NaN in the mean.
    """
    largest = max(records, key=lambda record: record.gradient_amax)
    return replace(largest, loss=_mean([r.loss for r in records if r.loss is not None]))


def _mean(losses: Sequence[float]) -> float | None:
    if not losses:
        return None
    finite = all(math.isfinite(loss) for loss in losses)
    return (math.fsum(losses) if finite else sum(losses)) / len(losses)


def _merge_updates(ranks: Iterable[Contents]) -> dict[str, Sequence[UpdateWindow]]:
    # Every rank applies the same update to its replica of a parameter: adding them up would
    # count one update once per rank, so the first rank that recorded a parameter speaks for all.
    return _first_of_each(rank.updates for rank in ranks)


def _first_of_each(maps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return reduce(lambda known, further: {**further, **known}, maps, {})
