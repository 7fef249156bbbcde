"""Recordings of several ranks as one, by exact addition."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import groupby
from typing import Final

from precscope.facts import Site, SiteKind, StepRecord, UpdateWindow, Window
from precscope.recording.contents import Contents
from precscope.recording.documents import Copies, copies_of, merge_documents
from precscope.recording.series import WINDOWS
from precscope.recording.thinning import Span, merge_updates, merge_windows
from precscope.recording.values import Row

SiteKey = tuple[str, SiteKind]

PARAMETER_KINDS: Final = ("weight", "weight_gradient")


def merge_contents(ranks: Sequence[Contents]) -> Contents:
    """All ranks as one run, in the order given.

    Sites match by name and kind. Windows over the same steps add; others stay side by side. Of a
    parameter that every rank holds a copy of, one rank's counts stand for all.
    """
    held = [copies_of(rank.documents) for rank in ranks]
    sites = _merge_sites(ranks)
    numbers = {_key(site): number for number, site in enumerate(sites)}
    return Contents(
        meta={**ranks[0].meta, "ranks": len(ranks)},
        sites=sites,
        windows=_merge_windows(ranks, held, numbers),
        steps=_merge_steps(ranks, numbers),
        updates=_merge_updates(ranks, held),
        documents=merge_documents([rank.documents for rank in ranks], sites),
        is_complete=all(rank.is_complete for rank in ranks) and not _misses_ranks(ranks),
    )


def _misses_ranks(ranks: Sequence[Contents]) -> bool:
    size = ranks[0].meta.get("world_size")
    return isinstance(size, int) and len(ranks) < size


def of_one_run(found: Sequence[Contents]) -> list[Contents]:
    """The ranks of one run among files found by their names.

    A file whose rank the run of the first one never had was left behind by another run.
    """
    size = found[0].meta.get("world_size")
    if not isinstance(size, int):
        return list(found)
    ranks = [c for c in found if isinstance(rank := c.meta.get("rank"), int) and rank < size]
    return ranks or [found[0]]


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
    ranks: Sequence[Contents], held: Sequence[Copies], numbers: Mapping[SiteKey, int]
) -> dict[int, list[Row]]:
    first = _first_copies((_parameters_in(rank.sites) for rank in ranks), held)
    windows: defaultdict[int, list[Window]] = defaultdict(list)
    for rank, copies in zip(ranks, held, strict=True):
        for site_id, rows in rank.windows.items():
            site = rank.sites[site_id]
            if site.kind in PARAMETER_KINDS and copies.get(site.name, 0) > first[site.name]:
                continue
            windows[numbers[_key(site)]] += [WINDOWS.from_row(row) for row in rows]
    return {
        number: [WINDOWS.to_row(number, window) for window in _add_equal_spans(found)]
        for number, found in windows.items()
    }


def _parameters_in(sites: Iterable[Site]) -> Iterator[str]:
    return (site.name for site in sites if site.kind in PARAMETER_KINDS)


def _first_copies(names: Iterable[Iterable[str]], held: Sequence[Copies]) -> dict[str, int]:
    """Of each parameter, the smallest index of a copy that some rank recorded."""
    first: dict[str, int] = {}
    for recorded, copies in zip(names, held, strict=True):
        for name in recorded:
            index = copies.get(name, 0)
            first[name] = min(index, first.get(name, index))
    return first


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


def _merge_updates(
    ranks: Sequence[Contents], held: Sequence[Copies]
) -> dict[str, Sequence[UpdateWindow]]:
    """Samples of the shards add up; of copies, which all get the same update, one is enough."""
    first = _first_copies((rank.updates for rank in ranks), held)
    updates: defaultdict[str, list[UpdateWindow]] = defaultdict(list)
    for rank, copies in zip(ranks, held, strict=True):
        for name, windows in rank.updates.items():
            if copies.get(name, 0) == first[name]:
                updates[name] += windows
    return {name: _join_equal_spans(found) for name, found in updates.items()}


def _join_equal_spans(updates: Iterable[UpdateWindow]) -> list[UpdateWindow]:
    in_order = sorted(updates, key=_update_span)
    return [reduce(_join_shards, equal) for _, equal in groupby(in_order, key=_update_span)]


def _update_span(update: UpdateWindow) -> Span:
    return update.first_step, update.last_step


def _join_shards(one: UpdateWindow, other: UpdateWindow) -> UpdateWindow:
    steps = max(one.steps, other.steps)
    return replace(merge_updates(one, other), steps=steps, sampled=one.sampled + other.sampled)
