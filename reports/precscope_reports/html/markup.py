"""Small pieces of HTML. ``Html`` marks text that is already safe; ``esc`` is the only way in."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import NewType

from precscope_reports.phrases import DASH, MINUS, SEVERITY_WORDS

Html = NewType("Html", str)

# Control characters and lone surrogates (names decoded with surrogateescape) are not HTML; marks
# that turn the direction of text could make a name read as another one.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_PERCENT = re.compile(r"(\d) %")
_POWER = re.compile(r"\b2\^(-?\d+(?:\.\d+)?|[a-z]\b)")

# One shape per severity, so that it can be told without colour.
_ICON_PATHS = {
    "critical": "M5.2 1h5.6L15 5.2v5.6L10.8 15H5.2L1 10.8V5.2z",
    "warning": "M8 1.2 15.3 14.4H.7z",
    "advice": "M8 .8 15.2 8 8 15.2.8 8z",
    "ok": "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1z",
}
_ICON_MARKS = {
    "critical": "M5.4 5.4l5.2 5.2M10.6 5.4l-5.2 5.2",
    "warning": "M8 5.6v4.2M8 11.7v.3",
    "advice": "M8 5v.3M8 7.4v4",
    "ok": "M4.8 8.2l2.2 2.3 4.2-4.7",
}


def esc(text: object) -> Html:
    """``text`` as HTML: markup and quotes escaped, unprintable characters replaced by U+FFFD."""
    return Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(text)), quote=True))


def typeset(text: object) -> Html:
    """Escaped text with raised exponents (``2^-24``), and no line break before a per cent sign."""
    raised = _POWER.sub(lambda m: f"2<sup>{m[1].replace('-', MINUS)}</sup>", esc(text))
    return Html(_PERCENT.sub(r"\1&nbsp;%", raised))


def join(parts: Iterable[Html], separator: str = "") -> Html:
    """The parts one after the other."""
    return Html(separator.join(parts))


def name(text: object) -> Html:
    """A name from the user's program: monospaced, breaking at its dots, its direction isolated."""
    shown = str(text) if str(text).strip() else "(no name)"
    return Html(f'<bdi class="name">{esc(shown).replace(".", ".<wbr>")}</bdi>')


def dash(reason: str | None = None) -> Html:
    """What stands in for a number that is not there; the reason is read out and shown on hover."""
    if not reason:
        return Html(f'<span class="na">{DASH}</span>')
    return Html(
        f'<span class="na" title="{esc(reason)}">{DASH}'
        f'<span class="sr"> not measured: {esc(reason)}</span></span>'
    )


def icon(severity: str) -> Html:
    """The severity's mark: a shape of its own, drawn inline."""
    return Html(
        '<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">'
        f'<path class="icon-shape" d="{_ICON_PATHS[severity]}"/>'
        f'<path class="icon-mark" d="{_ICON_MARKS[severity]}"/></svg>'
    )


def badge(severity: str) -> Html:
    """Severity as icon and word; colour comes from the class."""
    return Html(
        f'<span class="badge {severity}">{icon(severity)}{esc(SEVERITY_WORDS[severity])}</span>'
    )


def code_block(code: str) -> Html:
    """Code to paste, with a copy button that appears when scripts run; nothing for no code."""
    if not code.strip():
        return Html("")
    return Html(
        '<div class="code"><pre tabindex="0"><code>'
        f"{esc(code.strip())}</code></pre>"
        '<button type="button" class="copy" hidden>Copy</button></div>'
    )


def facts(pairs: Iterable[tuple[str, Html]]) -> Html:
    """A definition list of labelled values."""
    rows = join(Html(f"<div><dt>{esc(k)}</dt><dd>{v}</dd></div>") for k, v in pairs)
    return Html(f'<dl class="facts">{rows}</dl>')


def table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[Html]], css_class: str = ""
) -> Html:
    """A table whose first cell of each row is its header, in a frame that scrolls sideways.

    A header that starts with ``#`` (which is not shown) is a column of numbers.
    """
    numeric = [header.startswith("#") for header in headers]
    heads = join(
        Html(f'<th scope="col"{_numeric(n)}>{typeset(header.lstrip("#"))}</th>')
        for header, n in zip(headers, numeric, strict=True)
    )
    body = join(_row(cells, numeric) for cells in rows)
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}">'
        f'<table class="{css_class}"><caption class="sr">{esc(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[Html], numeric: Sequence[bool]) -> Html:
    first = f'<th scope="row">{cells[0]}</th>'
    rest = "".join(
        f"<td{_numeric(n)}>{cell}</td>" for cell, n in zip(cells[1:], numeric[1:], strict=True)
    )
    return Html(f"<tr>{first}{rest}</tr>")


def _numeric(is_numeric: bool) -> str:
    return ' class="num"' if is_numeric else ""
