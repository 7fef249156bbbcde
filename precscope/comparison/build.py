"""compare: two sides to one comparison, documented in ``docs/compare.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from precscope.comparison.definitions import definitions
from precscope.comparison.runs import compare_runs
from precscope.comparison.side import Side
from precscope.comparison.sites import CHANGES, compare_sites, only_in
from precscope.comparison.verdicts import (
    compare_findings,
    compare_parameters,
    compare_sums,
    compare_verdicts,
)
from precscope.errors import UsageError
from precscope.result.build import finite_or_none

SCHEMA: Final = 1
NAMES_SHOWN: Final = 2


def compare(a: Side, b: Side) -> dict[str, Any]:
    """What moved from ``a`` to ``b``: plain data of schema 1, without NaN and infinities.

    Raises:
        UsageError: the two have no site and no training run in common; names what they have.
    """
    old, new = a.result, b.result
    sites = compare_sites(old["sites"], new["sites"], old["loss_scale"]["recommended_log2"])
    runs = compare_runs(old["runs"], new["runs"])
    if not (sites or runs):
        raise UsageError(_nothing_in_common(a, b))
    only = {"a": only_in(old["sites"], new["sites"]), "b": only_in(new["sites"], old["sites"])}
    changes = Counter(site["change"] for site in sites)
    compared: dict[str, Any] = finite_or_none(
        {
            "schema": SCHEMA,
            "sides": {"a": _side(a), "b": _side(b)},
            "note": _note(a, b, sites, only),
            "counts": {"common_sites": len(sites), **{c: changes[c] for c in CHANGES}},
            "verdicts": compare_verdicts(old, new),
            "findings": compare_findings(old, new),
            "sites": sites,
            "only_in": only,
            "parameters": compare_parameters(old, new),
            "accumulation": compare_sums(old, new),
            "runs": runs,
            "observed_loss": {"a": a.observed_loss, "b": b.observed_loss},
            "definitions": definitions(),
        }
    )
    return compared


def _side(side: Side) -> dict[str, Any]:
    environment = side.result["environment"]
    known = {key: environment.get(key) for key in ("created", "command", "torch", "device")}
    return {
        "label": side.label,
        "title": side.result["title"],
        **{key: value if isinstance(value, str) else None for key, value in known.items()},
        "observed_steps": side.result["coverage"]["observed_steps"],
        "sites": len(side.result["sites"]),
        "runs": len(side.result["runs"]),
    }


def _note(
    a: Side, b: Side, sites: Sequence[Mapping[str, Any]], only: Mapping[str, Sequence[Any]]
) -> str | None:
    """One line where the two are not plainly the same model; None where they are."""
    names = [side.result["title"] for side in (a, b)]
    reshaped = [site["name"] for site in sites if site["a"]["shape"] != site["b"]["shape"]]
    said = []
    if names[0] != names[1]:
        said.append(f"A is {names[0]}, B is {names[1]}")
    if only["a"] or only["b"]:
        said.append(
            f"sites in common: {len(sites)}, only in A: {len(only['a'])}, only in B: {len(only['b'])}"
        )
    if reshaped:
        said.append(f"{len(reshaped)} in common have another shape, {reshaped[0]} first")
    return "; ".join(said) or None


def _nothing_in_common(a: Side, b: Side) -> str:
    told = "; ".join(f"{side.label} has {_holds(side.result)}" for side in (a, b))
    return f"no site and no training run in common: {told}; compare two runs of one model"


def _holds(result: Mapping[str, Any]) -> str:
    names = [site["name"] for site in result["sites"]]
    names += [f"run {run['recipe']} with seed {run['seed']}" for run in result["runs"]]
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return (shown + (f" and {more} more" if more > 0 else "")) if names else "none"
