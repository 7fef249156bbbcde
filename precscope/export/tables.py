"""The rows of every table, from a result and the steps of its Recording."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from precscope.export.cells import Cell, cell
from precscope.export.column import Table
from precscope.export.columns import TABLES
from precscope.facts import StepRecord

Result = Mapping[str, Any]
Record = Mapping[str, Any]


def tables_of(
    result: Result, steps: Sequence[StepRecord]
) -> Iterator[tuple[Table, Iterator[tuple[Cell, ...]]]]:
    """Every table with its rows; each row has one cell per column, None for what is missing.

    Args:
        result: a dict of schema 1, see ``docs/json.md``.
        steps: the observed steps of the Recording behind it.

    Raises:
        ValueError: a cell has another type than its column.
    """
    sources: dict[str, Iterator[Record]] = {
        "sites": _sites(result),
        "histograms": _histograms(result),
        "windows": _windows(result),
        "steps": map(_step, steps),
        "runs": _runs(result),
        "losses": _losses(result),
        "metrics": _metrics(result),
        "parameters": _parameters(result),
        "accumulation": iter(result["accumulation"]["sites"]),
        "findings": _findings(result),
        "loss_scale": iter(result["loss_scale"]["curve"]),
    }
    for table in TABLES:
        yield table, _rows(table, sources[table.name])


def _rows(table: Table, records: Iterator[Record]) -> Iterator[tuple[Cell, ...]]:
    for record in records:
        yield tuple(cell(record, table, column) for column in table.columns)


def _sites(result: Result) -> Iterator[Record]:
    for number, site in enumerate(result["sites"]):
        apart = {name: site["histogram"][name] for name in ("zeros", "infinities", "nans")}
        yield {**site, **apart, "site_id": number, "shape": json.dumps(site["shape"])}


def _histograms(result: Result) -> Iterator[Record]:
    for number, site in enumerate(result["sites"]):
        found = site["histogram"]
        octaves = zip(found["counts"], found["powers"], strict=True)
        for exponent, (count, powers) in enumerate(octaves, found["first_exponent"]):
            if count:
                yield {
                    **_site_key(number, site),
                    "exponent": exponent,
                    "count": count,
                    "powers": powers,
                }


def _windows(result: Result) -> Iterator[Record]:
    for number, site in enumerate(result["sites"]):
        for window in site["windows"]:
            yield {**_site_key(number, site), **window}


def _site_key(number: int, site: Record) -> Record:
    return {"site_id": number, "name": site["name"], "kind": site["kind"]}


def _step(record: StepRecord) -> Record:
    return {
        "step": record.step,
        "loss": record.loss,
        "gradient_amax": record.gradient_amax,
        "gradient_amax_site_id": record.gradient_amax_site,
        "log2_scale": record.log2_scale,
    }


def _runs(result: Result) -> Iterator[Record]:
    for number, run in enumerate(result["runs"]):
        times = run.get("step_ms") or {}
        spread = {f"step_ms_{name}": times.get(name) for name in ("median", "p10", "p90")}
        yield {**run, **spread, "run_id": number}


def _losses(result: Result) -> Iterator[Record]:
    for number, run in enumerate(result["runs"]):
        scales, skipped = run.get("log2_scales") or [], set(run.get("skipped_at") or ())
        for step, loss in enumerate(run.get("losses") or []):
            yield {
                **_run_key(number, run),
                "step": step,
                "loss": loss,
                "log2_scale": scales[step] if step < len(scales) else None,
                "skipped": step in skipped,
            }


def _metrics(result: Result) -> Iterator[Record]:
    for number, run in enumerate(result["runs"]):
        for metric, value in (run.get("metrics") or {}).items():
            yield {**_run_key(number, run), "metric": metric, "value": value}


def _run_key(number: int, run: Record) -> Record:
    return {"run_id": number, "recipe": run["recipe"], "seed": run.get("seed")}


def _parameters(result: Result) -> Iterator[Record]:
    for parameter in result["master_weights"]["parameters"]:
        yield {**parameter, "parameter": parameter["name"]}


def _findings(result: Result) -> Iterator[Record]:
    for finding in result["findings"]:
        yield {**finding, "evidence": json.dumps(finding["evidence"], sort_keys=True)}
