"""Two runs side by side: what moved between them, as plain data."""

from __future__ import annotations

from precscope.comparison.build import SCHEMA as SCHEMA
from precscope.comparison.build import compare as compare
from precscope.comparison.side import Side as Side
from precscope.comparison.side import load_side as load_side
from precscope.comparison.side import side_of_recording as side_of_recording
