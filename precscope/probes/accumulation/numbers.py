"""From sums in several formats to errors and their causes, for many places at once.

Everything here is over stacked sums, whose arrays have one dimension more than those of ``Sums``, the
first: a place of the model. Working out a hundred places together takes little longer than one.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from precscope.probes.accumulation.sums import BLOCKS, Doubles, Sums

UNIT_ROUNDOFF: Final = 2.0**-11


def numbers_of(sums: Sums, lengths: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """The numbers of every place, as ``facts.worked_out`` describes them.

    Args:
        sums: stacked, of ``n`` places.
        lengths: addends that were looked at, shape (n,).
    """
    with np.errstate(all="ignore"):
        tables = _tables(sums, lengths)
    places = zip(*(_column(name, table) for name, table in tables.items()), strict=True)
    return [
        {**(dict(zip(tables, place, strict=True)) if why is None else NOTHING), "unmeasured": why}
        for place, why in zip(places, unmeasured(sums), strict=True)
    ]


def unmeasured(sums: Sums) -> list[str | None]:
    """Why there is no result to compare with, by place; None where there is one.

    The gradient of a bias before a batch norm is zero in truth. What is left of it once its terms are
    rounded is noise of about u sqrt(sum p^2 / 6), and an error relative to that says nothing.
    """
    zero = ~sums.exact.any(-1)
    noise = UNIT_ROUNDOFF * np.sqrt(sums.energy[:, 0].mean(-1) / 3)
    cancelled = np.sqrt(np.square(sums.exact).mean(-1)) < 2 * noise
    whys = np.where(cancelled, "the terms cancel to less than their own rounding", "")
    return [why or None for why in np.where(zero, "every sampled sum is zero", whys).tolist()]


def _tables(sums: Sums, lengths: npt.NDArray[np.int64]) -> dict[str, Doubles]:
    exact = sums.exact[:, None]
    found = np.concatenate((sums.half, sums.wide[:, None]), 1)
    size = np.sqrt(np.square(exact).mean(-1))
    errors = np.sqrt(np.square(found - exact).mean(-1)) / size
    kappa = _median(sums.magnitude / abs(sums.exact))[:, None]
    roundings = np.ceil(lengths[:, None] / np.array(BLOCKS))
    expected = np.sqrt(sums.walk.mean(-1) / 3) / size
    # Sums that hardly differ from each other have no variance to keep.
    variance = exact.var(-1)
    kept = found.var(-1) / np.where(variance > (1e-12 * size) ** 2, variance, np.nan)
    return {
        "errors_fp16": errors[:, :-1],
        "error_fp32": errors[:, -1],
        "kappa": kappa[:, 0],
        "peak": sums.peak.max(-1),
        "swamped": sums.swamped.sum(-1) / sums.energy.sum(-1),
        "variance_retention": kept[:, :-1],
        "variance_retention_fp32": kept[:, -1],
        "expected_errors": np.where(np.isfinite(errors[:, :-1]), expected, np.nan),
        "predicted_errors": np.sqrt(roundings) * UNIT_ROUNDOFF * kappa,
        "worst_errors": roundings * UNIT_ROUNDOFF * kappa,
    }


def _median(values: Doubles) -> Doubles:
    middle: Doubles = np.sort(values, -1)[:, values.shape[-1] // 2]
    return middle


def _column(name: str, table: Doubles) -> list[Any]:
    """One number, or one by block size, for each place; None where it is not finite."""
    values: list[Any] = np.where(np.isfinite(table), table, np.array(None)).tolist()
    if name not in _BY_BLOCK:
        return values
    return [dict(zip(_BLOCK_NAMES, value, strict=True)) for value in values]


_BLOCK_NAMES: Final = tuple(map(str, BLOCKS))
_BY_BLOCK: Final = (
    *("errors_fp16", "swamped", "variance_retention"),
    *("expected_errors", "predicted_errors", "worst_errors"),
)
NOTHING: Final[dict[str, Any]] = {
    **{name: dict.fromkeys(_BLOCK_NAMES) for name in _BY_BLOCK},
    **dict.fromkeys(("error_fp32", "kappa", "peak", "variance_retention_fp32")),
}
"""The numbers of a place where nothing was measured."""
