"""How numbers and fixed terms are worded, the same in the terminal and in the page.

Rounding is honest: a share that is not zero never prints as ``0``, one that is not everything
never prints as ``100 %``, and what was not measured prints as a dash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

DASH = "—"
MINUS = "\u2212"
TIMES = "\u00d7"

SEVERITIES: tuple[str, ...] = ("critical", "warning", "advice", "ok")
SEVERITY_WORDS: Mapping[str, str] = {
    "critical": "Critical",
    "warning": "Warning",
    "advice": "Advice",
    "ok": "OK",
}
KIND_WORDS: Mapping[str, str] = {
    "activation": "activation",
    "activation_gradient": "activation gradient",
    "weight": "weight",
    "weight_gradient": "weight gradient",
}
QUESTION_WORDS: Mapping[str, str] = {
    "range": "Range",
    "loss_scale": "Loss scale",
    "master_weights": "Master weights",
    "training": "Training",
    "accumulation": "Accumulation",
}
VERDICT_WORDS: Mapping[str, str] = {
    "not_needed": "not needed",
    "static": "static scale",
    "dynamic": "dynamic scaling",
    "impossible": "no single scale works",
    "required": "required",
    "advised": "advised",
    "unknown": "unknown",
    "stays_fp32": "stays FP32",
    "fp32_required": "FP32 required",
    "fp32_advised": "FP32 advised",
    "fp16_ok": "FP16 is enough",
}


def urgency(severity: str) -> int:
    """Place in ``SEVERITIES``, 0 for the gravest; an unknown one comes last."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def verdict_word(verdict: str) -> str:
    """A verdict in words; an unknown one as it is."""
    return VERDICT_WORDS.get(verdict, verdict)


def power_of_two(exponent: float | None) -> str:
    """``2^-24`` for -24, ``2^-14.9`` for -14.93; a dash for None or a non-finite exponent."""
    if exponent is None or not math.isfinite(exponent):
        return DASH
    rounded = round(exponent, 1)
    return f"2^{int(rounded)}" if rounded == int(rounded) else f"2^{rounded:.1f}"


def magnitude(value: float | None) -> str:
    """``|value|`` as a power of two, ``2^-14.9``; ``0`` for zero, a dash for None."""
    if value is None or not math.isfinite(value):
        return DASH
    return power_of_two(math.log2(abs(value))) if value else "0"


def scale(factor: float | None) -> str:
    """A loss scale: ``1024 (2^10)``, ``2^-3`` below 1, ``1000`` where it is no power of two."""
    if factor is None or not math.isfinite(factor) or factor <= 0:
        return DASH
    mantissa, exponent = math.frexp(factor)
    if mantissa != 0.5:
        return number(factor)
    power = power_of_two(exponent - 1)
    return f"{factor:.0f} ({power})" if 1 <= factor < 2**31 else power


def share(fraction: float | None) -> str:
    """A fraction of 1 in per cent: ``0``, ``<0.01 %``, ``0.12 %``, ``12.3 %``, ``>99.9 %``.

    Exactly 0 and 1 print as ``0`` and ``100 %``; nothing else rounds to them. None, NaN and
    infinities print as a dash.
    """
    if fraction is None or not math.isfinite(fraction):
        return DASH
    if fraction == 0:
        return "0"
    if fraction == 1:
        return "100 %"
    percent = 100 * fraction
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.95 <= percent < 100:
        return ">99.9 %"
    return f"{percent:.2f} %" if abs(percent) < 9.995 else f"{percent:.1f} %"


def byte_size(size_bytes: float | None) -> str:
    """Bytes in binary units with three significant digits: ``512 B``, ``1.50 KiB``, ``23.4 MiB``."""
    if size_bytes is None or not math.isfinite(size_bytes):
        return DASH
    size, units = float(size_bytes), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    # 1023.5 would print as 1024: the next unit begins where rounding does.
    while abs(size) >= 1023.5 and unit != "TiB":
        size, unit = size / 1024, next(units)
    return f"{size:.0f} B" if unit == "B" else f"{_three_digits(size)} {unit}"


def duration(time_ms: float | None) -> str:
    """Milliseconds with three significant digits: ``85.0 µs``, ``12.3 ms``, ``1.20 s``."""
    if time_ms is None or not math.isfinite(time_ms):
        return DASH
    if time_ms == 0:
        return "0 ms"
    if abs(time_ms) < 0.9995:
        return f"{_three_digits(time_ms * 1000)} µs"
    return f"{_three_digits(time_ms)} ms" if abs(time_ms) < 999.5 else f"{time_ms / 1000:.2f} s"


def number(value: float | str | None) -> str:
    """Four significant digits: ``0.01234``, ``1.234e-07``, ``12,345``; NaN and infinities by name."""
    if value is None:
        return DASH
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e9:
        return count(int(value))
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def ratio(value: float | None) -> str:
    """A quotient with two decimals and a multiplication sign; a dash for None."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.2f}{TIMES}"


def count(value: int | None) -> str:
    """A whole number with thousands separators; a dash for None."""
    return DASH if value is None else f"{value:,}"


def counted(value: int, noun: str, plural: str | None = None) -> str:
    """``1 site``, ``2,000 sites``; ``plural`` where it is not the noun with an s."""
    return f"{count(value)} {noun if value == 1 else plural or noun + 's'}"


def moment(iso_utc: str | None) -> str:
    """``2026-01-02 03:04 UTC`` for an ISO 8601 time in UTC; a dash for None."""
    return f"{iso_utc[:16].replace('T', ' ')} UTC" if iso_utc else DASH


def difference(fraction: float | None) -> str:
    """A signed relative difference in per cent: ``+0.05 %``; ``0`` only where it is exactly 0."""
    if fraction is None or not math.isfinite(fraction):
        return DASH
    if fraction == 0:
        return "0"
    if abs(fraction) < 5e-5:
        return "under \u00b10.01 %"
    return f"{100 * fraction:+.2f} %".replace("-", MINUS)


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop, for reasons that stand alone."""
    text = text.strip()
    stop = "" if not text or text[-1] in ".!?" else "."
    return text[:1].upper() + text[1:] + stop


def missing(reason: str | None) -> str:
    """What stands in for a number that is not there: ``— (reason)``, or a bare dash."""
    return f"{DASH} ({reason})" if reason else DASH


def _three_digits(value: float) -> str:
    decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    # 9.996 has two decimals by its logarithm and three digits only after rounding.
    if float(f"{abs(value):.{decimals}f}") >= 10 ** (3 - decimals) and decimals:
        decimals -= 1
    return f"{value:.{decimals}f}"
