"""The HTML report: one self-contained file that works offline from ``file://``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from precscope.errors import PrecscopeError
from precscope_reports.files import write_whole


def render(result: dict[str, Any]) -> str:
    """The report as one HTML page; a pure function of the result.

    It needs no network: styles, scripts, data and plotly's bundle are inside. Every name from the
    user's program is escaped, and a content security policy lets only the page's own scripts run.

    Args:
        result: a dict of schema 1, as ``precscope.result.build_result`` returns it.
    """
    from precscope_reports.html.page import build

    return build(result)


def write(result: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Render into a file and return its path; the file is there whole, or as it was before.

    Raises:
        PrecscopeError: the folder cannot be written to.
    """
    target, page = Path(path), render(result)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, page)
    except OSError as error:
        raise PrecscopeError(
            f"cannot write the report to {target}: {error.strerror or error}; "
            "choose another place with --output"
        ) from error
    return target
