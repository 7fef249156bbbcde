"""The JSON result: everything a report shows, as plain data."""

from precscope.result.build import SCHEMA as SCHEMA
from precscope.result.build import build_result as build_result
