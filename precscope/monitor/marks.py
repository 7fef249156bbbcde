"""Marks of steps that broke: which sites held infinities or NaNs, in execution order.

From the logs of a flush, on the host. Only what is judged later is kept, and never more than
``MAX_MARKS`` steps of it; the judgement itself is in ``precscope.advice.blame``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from precscope.facts import GRADIENT_KINDS, Site
from precscope.monitor.rows import TakenBlock

MAX_MARKS = 64
MAX_SITES = 12
TRAIL_STEPS = 8
INPUT = -1

EndedStep = tuple[int, float | None, float, bool]
"""Step, loss, log2 of the loss scale, whether the update was skipped."""


class Marks:
    """Collects the steps in which a loss, gradient or weight was not finite, or was skipped."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.usual: set[tuple[str, str]] = set()
        self.usual_input = False
        self.count = 0
        self.skipped = 0

    def add(self, taken: list[TakenBlock], ended: list[EndedStep], sites: dict[int, Site]) -> None:
        """Mark what broke in the steps since the last flush."""
        if not taken:
            return
        owners = [site for block in taken for site in block.sites]
        bad = np.diff(np.concatenate([block.bad_log for block in taken]), axis=1, prepend=0)
        anything = bool(bad.any())
        amax = np.concatenate([block.amax_log for block in taken])
        for column, (step, loss, log2_scale, skipped) in enumerate(ended):
            lossy = loss is not None and not math.isfinite(loss)
            if not (anything or skipped or lossy):
                continue
            found = _bad_sites(owners, bad[:, column].tolist())
            if skipped or lossy or any(_breaks(sites, site) for site in found):
                mark = self._mark(found, sites)
                mark |= {"step": step, "log2_scale": log2_scale, "skipped": skipped}
                mark["loss_finite"] = not lossy
                mark["before"] = _trails(mark.pop("first"), owners, amax, ended, column)
                self._keep(mark)
            else:
                self.usual_input |= INPUT in found
                self.usual |= {(sites[s].name, sites[s].kind) for s in found if s != INPUT}

    def _mark(self, found: dict[int, int], sites: dict[int, Site]) -> dict[str, Any]:
        forward = _of(found, sites, "activation")
        backward = [s for s in _ordered(found, sites) if sites[s].kind in GRADIENT_KINDS]
        weights = _of(found, sites, "weight")
        fresh = [s for s in forward if (sites[s].name, "activation") not in self.usual]
        chosen = [*weights[:MAX_SITES], *fresh[:MAX_SITES], *backward[:MAX_SITES]]
        gradients = [s for s in backward if sites[s].kind == "weight_gradient"]
        return {
            "input": 0 if self.usual_input else found.get(INPUT, 0),
            "sites": [
                {"name": sites[s].name, "kind": sites[s].kind, "count": found[s]} for s in chosen
            ],
            "parameter": sites[gradients[0]].name if gradients else None,
            "first": [(s, sites[s]) for s in (*fresh[:1], *backward[:1])],
        }

    def _keep(self, mark: dict[str, Any]) -> None:
        """The first half of the marks, and the latest."""
        self.count += 1
        self.skipped += bool(mark["skipped"])
        if len(self.steps) == MAX_MARKS:
            del self.steps[MAX_MARKS // 2]
        self.steps.append(mark)

    def document(self) -> dict[str, Any]:
        """The marks as JSON: ``{"count", "skipped", "steps": [...]}``."""
        return {"count": self.count, "skipped": self.skipped, "steps": self.steps}


def _bad_sites(owners: list[int], counts: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for site, count in zip(owners, counts, strict=True):
        if count > 0:
            found[site] = found.get(site, 0) + count
    return found


def _breaks(sites: dict[int, Site], site: int) -> bool:
    return site != INPUT and sites[site].kind != "activation"


def _ordered(found: Iterable[int], sites: dict[int, Site]) -> list[int]:
    return sorted((s for s in found if s != INPUT), key=lambda s: sites[s].order)


def _of(found: Iterable[int], sites: dict[int, Site], kind: str) -> list[int]:
    return [s for s in _ordered(found, sites) if sites[s].kind == kind]


def _trails(
    first: list[tuple[int, Site]],
    owners: list[int],
    amax: npt.NDArray[np.float64],
    ended: list[EndedStep],
    column: int,
) -> list[dict[str, Any]]:
    """The largest finite value of the first bad sites in the observed steps before."""
    span = range(max(0, column - TRAIL_STEPS), column)
    return [
        {
            "name": site.name,
            "kind": site.kind,
            "amax": [[ended[i][0], _largest(amax[:, i], owners, index)] for i in span],
        }
        for index, site in first
    ]


def _largest(column: npt.NDArray[np.float64], owners: list[int], site: int) -> float:
    rows = [i for i, owner in enumerate(owners) if owner == site]
    return float(column[rows].max())
