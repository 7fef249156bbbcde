"""Tables as Parquet, with every column's unit and meaning in its metadata."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from precscope.errors import PrecscopeError
from precscope.export.cells import Cell
from precscope.export.column import Column, Table

SUFFIX: Final = ".parquet"
ROWS_AT_ONCE: Final = 1 << 16


def require_parquet() -> Any:
    """The module ``pyarrow`` with its Parquet writer.

    Raises:
        PrecscopeError: it is not installed; the message says how to.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise PrecscopeError(
            "--parquet needs pyarrow: pip install 'precscope[parquet]', or use --csv"
        ) from error


def write_parquet(table: Table, rows: Iterable[tuple[Cell, ...]], path: Path) -> int:
    """Write one table and return its number of rows.

    Missing values are nulls; NaN and infinities stay what they are.

    Raises:
        PrecscopeError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    pyarrow = require_parquet()
    schema = pyarrow.schema([_field(pyarrow, column) for column in table.columns])
    written, rows = 0, iter(rows)
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            cells = zip(*batch, strict=True)
            arrays = [pyarrow.array(c, field.type) for c, field in zip(cells, schema, strict=True)]
            file.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            written += len(batch)
    return written


def _field(pyarrow: Any, column: Column) -> Any:
    types = {
        "integer": pyarrow.int64(),
        "real": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
        "text": pyarrow.string(),
    }
    told = {"unit": column.unit, "meaning": column.meaning}
    return pyarrow.field(column.name, types[column.type], metadata=told)
