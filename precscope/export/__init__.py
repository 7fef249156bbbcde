"""A run as tidy tables, for pandas and SQL: one fact per row, one unit per column."""

from __future__ import annotations

from precscope.export.column import Column as Column
from precscope.export.column import Table as Table
from precscope.export.columns import TABLES as TABLES
from precscope.export.tables import tables_of as tables_of
