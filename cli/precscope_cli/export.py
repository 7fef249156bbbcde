"""``precscope export``: a run as tidy tables, for pandas and SQL."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from precscope.errors import PrecscopeError, UsageError
from precscope_cli.options import PATH, debug_option, quiet_option
from precscope_cli.output import drop_empty
from precscope_cli.sides import made_from, open_recordings
from precscope_cli.streams import one_line, put

if TYPE_CHECKING:
    from precscope.recording import Recording

Write = Callable[[Any, Any, Path], int]

EXAMPLES = """\b
Examples:
  precscope export run.precscope --csv tables
  precscope export precscope-runs/digits_cnn-20260101-120000 --parquet tables
  precscope export rank0.precscope rank1.precscope --csv merged --overwrite

\b
  pandas.read_csv("tables/sites.csv")
  duckdb -c "select name, l1_flushed_fp16 from 'tables/sites.parquet' order by 2 desc"

\b
Every table and column with its unit: docs/export.md.
"""


@click.command(short_help="Write a run as tables, CSV or Parquet.", epilog=EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option("--csv", "csv", type=PATH, metavar="DIR", help="Write DIR/<table>.csv.")
@click.option("--parquet", type=PATH, metavar="DIR", help="Write DIR/<table>.parquet.")
@click.option("--overwrite", is_flag=True, help="Replace tables that are in DIR already.")
@quiet_option
@debug_option
def export(
    runs: tuple[Path, ...], csv: Path | None, parquet: Path | None, overwrite: bool, quiet: bool
) -> None:
    """Write RUN as tables: sites, histograms, windows, steps, runs, losses, and what was found.

    RUN is a Recording or the folder of a run; several are merged, as the ranks of one training.
    Values are written exactly as measured, names as they are in the model.
    """
    if csv is None and parquet is None:
        raise click.UsageError("name a folder with --csv or --parquet", _context())
    writers = [_csv(csv), _parquet(parquet)]
    chosen = [writer for writer in writers if writer]
    for folder, suffix, _ in chosen:
        _check_folder(folder, suffix, overwrite)
    recording = open_recordings(runs)
    for folder, suffix, write in chosen:
        counts = made_from(
            runs[0],
            partial(_write, recording, folder, suffix, write),
        )
        if not quiet:
            put("".join(f"{one_line(str(path))}  {rows:,} rows\n" for path, rows in counts.items()))


def _csv(folder: Path | None) -> tuple[Path, str, Write] | None:
    if folder is None:
        return None
    from precscope.export.csv_files import SUFFIX, write_csv

    return folder, SUFFIX, write_csv


def _parquet(folder: Path | None) -> tuple[Path, str, Write] | None:
    if folder is None:
        return None
    from precscope.export.parquet_files import SUFFIX, require_parquet, write_parquet

    require_parquet()
    return folder, SUFFIX, write_parquet


def _check_folder(folder: Path, suffix: str, overwrite: bool) -> None:
    from precscope.export import TABLES

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder")
    there = [table.name + suffix for table in TABLES if (folder / (table.name + suffix)).exists()]
    if there and not overwrite:
        raise UsageError(f"{folder} has a {there[0]} already: name a new folder, or --overwrite")


def _write(recording: Recording, folder: Path, suffix: str, write: Write) -> dict[Path, int]:
    """Write every table beside its place first, so that a failure leaves what was there before."""
    from precscope.export import tables_of
    from precscope.result import build_result

    tables, counts, result = {}, {}, build_result(recording)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in tables_of(result, recording.steps):
            unfinished = folder / f".{table.name}{suffix}.{os.getpid()}"
            tables[unfinished] = folder / (table.name + suffix)
            counts[tables[unfinished]] = write(table, rows, unfinished)
        for unfinished, path in tables.items():
            unfinished.replace(path)
    except OSError as error:
        raise PrecscopeError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        for unfinished in tables:
            unfinished.unlink(missing_ok=True)
        drop_empty(made)
    return counts


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)
