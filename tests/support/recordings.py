"""Recordings made by hand, for tests of what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from precscope.facts import RetentionSums, Site, SiteKind, StepRecord, UpdateWindow, Window
from precscope.kernels.reference import observe_reference
from precscope.kernels.row import new_rows, to_histogram
from precscope.recording import Recording

Values = Sequence[float]


def site(name: str, kind: SiteKind, autocast_dtype: str | None, order: int = 0) -> Site:
    return Site(name, kind, (1,), "float32", autocast_dtype, "Linear", order)


def window(values: Values, first_step: int = 0, last_step: int = 0) -> Window:
    row = new_rows(1)[0]
    observe_reference(torch.tensor(list(values), dtype=torch.float64), row)
    return Window(first_step, last_step, 1, to_histogram(row))


def recording(
    sites: Sequence[tuple[str, SiteKind, Values]],
    autocast_dtype: str | None = "float16",
    updates: dict[str, list[UpdateWindow]] | None = None,
    **documents: Any,
) -> Recording:
    """One window per site; one step whose largest gradient is that of the gradient sites."""
    facts = [site(n, k, autocast_dtype, i) for i, (n, k, _) in enumerate(sites)]
    windows = {i: [window(values)] for i, (_, _, values) in enumerate(sites)}
    gradients = [
        (windows[i][0].histogram.amax, i) for i, s in enumerate(facts) if "gradient" in s.kind
    ]
    amax, owner = max(gradients, default=(0.0, 0))
    steps = [StepRecord(0, 1.0, amax, owner if amax else None, 0.0)]
    return Recording.from_facts(
        meta={"title": "by hand"},
        sites=facts,
        windows=windows,
        steps=steps if gradients else [],
        updates=updates or {},
        documents=documents,
    )


def update_window(
    parameter: str,
    retention: tuple[float, float, float],
    nonzero: int = 100,
    squares: float = 1.0,
    learning_rate: float = 0.1,
) -> UpdateWindow:
    """A window whose single updates have the given retention at the three factors."""
    single = tuple(
        RetentionSums(f, r * squares, squares, 0.0, int(nonzero * (1 - min(r, 1.0))), nonzero)
        for f, r in zip((1.0, 0.1, 0.01), retention, strict=True)
    )
    return UpdateWindow(parameter, 0, 9, 10, 256, learning_rate, 0, 0, single, None)
