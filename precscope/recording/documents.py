"""The documents of several ranks as one: the first of each name, but for what ranks tell together.

Documents come from files of anybody: one that does not have the expected form is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Final, TypeAlias

from precscope.facts import Site

Documents: TypeAlias = Mapping[str, Any]
Copies: TypeAlias = Mapping[str, int]
"""Parameters that are copies of those of an earlier rank, and how many ranks come before."""

Order: TypeAlias = dict[tuple[str, str], int]
"""Place of each site in the order of execution, by name and kind."""

_FORWARD: Final = {"weight": 0, "activation": 1}
"""What is looked at first when the origin of a bad value is judged; gradients come last."""


def copies_of(documents: Documents) -> dict[str, int]:
    """The document ``replicas`` of one rank, those of all models of a script together."""
    copies: dict[str, int] = {}
    for name, document in documents.items():
        title, _, model = name.partition(" ")
        if title == "replicas" and isinstance(document, Mapping):
            for parameter, index in document.items():
                if type(index) is int and index > 0:
                    copies[f"{model}.{parameter}" if model else parameter] = index
    return copies


def merge_documents(ranks: Sequence[Documents], sites: Iterable[Site]) -> dict[str, Any]:
    """All documents of all ranks by name.

    ``non_finite`` names what was bad on any rank, step by step, and ``coverage`` the observers
    that failed on any. Everything else is the first rank's that has it.
    """
    first: dict[str, Any] = reduce(lambda known, further: {**further, **known}, ranks, {})
    order: Order = {(site.name, site.kind): site.order for site in sites}
    joined: dict[str, Callable[[list[Any]], Any]] = {
        "non_finite": lambda found: _join_marks(found, order),
        "coverage": _join_coverage,
    }
    for name in first:
        join = joined.get(name.partition(" ")[0])
        found = [rank[name] for rank in ranks if name in rank]
        if join is not None and len(found) > 1:
            first[name] = _joined(join, found)
    return first


def _joined(join: Callable[[list[Any]], Any], found: list[Any]) -> Any:
    try:
        return join(found)
    except (TypeError, KeyError, AttributeError, IndexError):  # not written by us
        return found[0]


def _join_coverage(found: list[Any]) -> dict[str, Any]:
    errors = {
        (e["where"], e["message"]): e for document in found for e in document["observer_errors"]
    }
    return {**found[0], "observer_errors": list(errors.values())}


def _join_marks(found: list[Any], order: Order) -> dict[str, Any]:
    by_step: dict[int, list[Any]] = {}
    for document in found:
        for mark in document["steps"]:
            by_step.setdefault(mark["step"], []).append(mark)
    steps = [_join_mark(by_step[step], order) for step in sorted(by_step)]
    count = max(len(steps), *(document["count"] for document in found))
    skipped = max(document["skipped"] for document in found)
    return {"count": count, "skipped": skipped, "steps": steps}


def _join_mark(marks: list[Any], order: Order) -> dict[str, Any]:
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for place in (place for mark in marks for place in mark["sites"]):
        known = places.setdefault((place["name"], place["kind"]), {**place, "count": 0})
        known["count"] += place["count"]
    keys = sorted(places, key=lambda key: (_FORWARD.get(key[1], 2), order.get(key, len(order))))
    parameters = [name for name, kind in keys if kind == "weight_gradient"]
    trails = {(t["name"], t["kind"]): t for mark in reversed(marks) for t in mark["before"]}
    return {
        **marks[0],
        "input": sum(mark["input"] for mark in marks),
        "sites": [places[key] for key in keys],
        "parameter": parameters[0] if parameters else marks[0]["parameter"],
        "skipped": any(mark["skipped"] for mark in marks),
        "loss_finite": all(mark["loss_finite"] for mark in marks),
        "before": list(trails.values()),
    }
