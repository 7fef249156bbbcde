"""precscope_reports: the dict of ``precscope.result.build_result`` in, a page or a screen out."""

from __future__ import annotations
