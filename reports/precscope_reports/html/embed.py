"""Everything the page carries in itself: scripts, styles, data, and the plotly bundle."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import math
from importlib import resources
from typing import Any

from precscope_reports.html.markup import Html

# Concatenated in this order into one script with one scope.
SCRIPTS = (
    "errors.js",
    "wording.js",
    "numerics.js",
    "data.js",
    "tree.js",
    "state.js",
    "theme.js",
    "heatmap.js",
    "sparkline.js",
    "sites_table.js",
    "site_facts.js",
    "site_dialog.js",
    "totals.js",
    "loss_scale.js",
    "runs.js",
    "sweep.js",
    "weights.js",
    "sums.js",
    "speed.js",
    "main.js",
)


def asset(name: str) -> str:
    """The text of a packaged file of ``assets/``, with Unix line ends whatever git made of them.

    A parser of HTML turns CRLF into LF, and a script's hash is taken over what it sees.
    """
    folder = resources.files("precscope_reports.html") / "assets"
    return (folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def page_script() -> str:
    """The page's own script: all of ``SCRIPTS`` in one function scope."""
    body = "\n".join(asset(f"js/{name}") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def dumps(value: Any) -> str:
    """JSON that is safe inside a script element.

    ASCII only (so U+2028, U+2029 and direction marks are escapes), ``<``, ``>`` and ``&`` escaped;
    NaN and infinities, which JSON has no numbers for, become null.
    """
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&"})


def json_script(element_id: str, value: Any) -> Html:
    """A data block that is read with ``JSON.parse(element.textContent)``."""
    return Html(f'<script type="application/json" id="{element_id}">{dumps(value)}</script>')


def packed_script(element_id: str, base64_text: str) -> Html:
    """A data block of base64 of gzip, unpacked in the browser with ``DecompressionStream``."""
    return Html(f'<script type="text/plain" id="{element_id}">{base64_text}</script>')


def pack(text: str) -> str:
    """Base64 of gzip of UTF-8; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")


def script_hash(source: str) -> str:
    """The script's source expression in a Content-Security-Policy: ``'sha256-…'``."""
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@functools.cache
def packed_plotly() -> tuple[str, str]:
    """The installed plotly's own bundle, packed, and its hash for the security policy."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs().replace("\r\n", "\n")
    return pack(source), script_hash(source)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
