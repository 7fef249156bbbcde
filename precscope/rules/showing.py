"""A value beside its limit, in as many digits as it takes to tell them apart."""

from __future__ import annotations

import math

from precscope.rules.quantity import Reading
from precscope.rules.rule import Rule

DIGITS = (4, 6, 9, 17)


def shown_value(rule: Rule, reading: Reading) -> str:
    """The value with its unit, or in words."""
    quantity = rule.quantity
    if quantity.over == "findings":
        severity, name = reading.words
        return f"{reading.label}: {severity} {name}: {reading.detail}"
    if quantity.sort == "word":
        return reading.words[0]
    if quantity.sort == "flag":
        return quantity.name
    if math.isnan(reading.number):
        return "no number"
    digits = told_apart(reading.number, rule.limit)
    return f"{digits} {quantity.unit}".rstrip()


def told_apart(value: float, limit: float) -> str:
    """``value`` in 4 digits, or in more where 4 would show it as ``limit``.

    NaN and infinity are written as such; a value that is the limit in 4.
    """
    for digits in DIGITS:
        text = f"{value:.{digits}g}"
        if value == limit or text != f"{limit:.{digits}g}":
            return text if value != limit else f"{value:.{DIGITS[0]}g}"
    return repr(value)
