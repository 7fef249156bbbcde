"""What a ``result.json`` must look like for the keys that a comparison reads."""

from __future__ import annotations

from typing import Any, Final

from precscope.facts import SITE_KINDS
from precscope.histogram import MAX_EXPONENT, MIN_EXPONENT
from precscope.recording.shapes import (
    anything,
    boolean,
    count,
    fields,
    finite,
    integer,
    list_of,
    loss,
    magnitude,
    one_of,
    or_none,
    text,
)

SCHEMA: Final = 1
MAX_TOTAL: Final = 1 << 62
"""Values in one site: more would not add up in 64 bits."""

_SHARES: Final = ("zero_fraction", "flushed_fp16", "l1_flushed_fp16", "overflow_fp16")


def _histogram(value: Any, place: str) -> None:
    fields(
        first_exponent=integer,
        counts=list_of(count),
        powers=list_of(count),
        zeros=count,
        infinities=count,
        nans=count,
    )(value, place)
    counts, powers, first = value["counts"], value["powers"], value["first_exponent"]
    if not MIN_EXPONENT <= first <= first + len(counts) <= MAX_EXPONENT + 1:
        raise ValueError(f"{place}: expected exponents from {MIN_EXPONENT} to {MAX_EXPONENT}")
    fits = len(powers) == len(counts) and all(p <= c for p, c in zip(powers, counts, strict=True))
    total = sum(counts) + value["zeros"] + value["infinities"] + value["nans"]
    if not fits or total > MAX_TOTAL:
        raise ValueError(f"{place}: expected counts that a tensor can have")


_SITE: Final = fields(
    name=text,
    kind=one_of(SITE_KINDS),
    shape=list_of(count),
    dtype=text,
    at_risk=boolean,
    histogram=_histogram,
    amax=or_none(magnitude),
    sum_abs=or_none(magnitude),
    **dict.fromkeys(_SHARES, or_none(magnitude)),
)

_RUN: Final = fields(
    recipe=text,
    seed=or_none(integer),
    final_loss=or_none(loss),
    diverged_at=or_none(count),
    skipped_steps=or_none(count),
)

_RESULT: Final = fields(
    {
        "accumulation": or_none(
            fields(
                sites=list_of(
                    fields({"error_fp16": or_none(finite)}, site=text, operation=text, verdict=text)
                )
            )
        ),
        "parity": or_none(fields({"verdict": or_none(text)})),
        "drift": or_none(fields({"state": or_none(text)})),
        "non_finite": or_none(list_of(anything)),
    },
    title=text,
    environment=fields(dict.fromkeys(("created", "command", "torch", "device"), anything)),
    coverage=fields(observed_steps=count),
    findings=list_of(fields(rule=text, severity=text, site=or_none(text), message=text)),
    loss_scale=fields(
        verdict=text,
        minimum_log2=or_none(finite),
        maximum_log2=or_none(finite),
        recommended_log2=or_none(finite),
    ),
    master_weights=fields(
        verdict=text,
        parameters=list_of(fields(name=text, retention=or_none(finite), verdict=text)),
    ),
    sites=list_of(_SITE),
    runs=list_of(_RUN),
)


def check_result(value: Any) -> None:
    """Check everything that a comparison reads.

    Raises:
        ValueError: a key is missing or holds something else; names it.
    """
    if not isinstance(value, dict) or "schema" not in value:
        raise ValueError("it has no key named schema")
    if value["schema"] != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}: upgrade precscope")
    _RESULT(value, "result")
