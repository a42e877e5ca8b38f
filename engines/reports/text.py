"""Formats numbers and untrusted text for people."""

from __future__ import annotations

import math
import re
from typing import Any

from engines.failures import count as count  # noqa: PLC0414 - a report calls it beside the others, as text.count

NONE = "–"
"""Shown instead of a missing number."""
SPACE = "\u202f"
"""Separates a number from its unit: a narrow space without a line break."""

# Control characters except line feed and tab, bidirectional overrides (a file name must not reverse a line),
# surrogates, and other characters that XML does not allow.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(value: str) -> str:
    """Return untrusted text with characters that cannot be shown replaced by U+FFFD. It is not escaped."""
    return _UNPRINTABLE.sub("\ufffd", value)


def shorten(value: str, length: int) -> str:
    """Return at most `length` characters of a text, cut in the middle, because names often differ at their ends."""
    if len(value) <= length:
        return value
    head = (length - 1) // 2
    return f"{value[:head]}…{value[-(length - 1 - head) :]}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, without an exponent if that is short."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}".replace("-", "−")
    return f"{value:.{digits - 1}e}".replace("-", "−")


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a fraction as a percentage."""
    return (
        NONE if value is None or not math.isfinite(value) else f"{100 * value:.{decimals}f}{SPACE}%".replace("-", "−")
    )


def points(value: float | None, decimals: int = 2) -> str:
    """Return a difference of fractions as signed percentage points."""
    return NONE if value is None or not math.isfinite(value) else signed(100 * value, decimals)


def signed(value: float, decimals: int = 2) -> str:
    """Return a number with its sign, except for zero."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def milliseconds(value: float | None) -> str:
    """Return a time in milliseconds in a suitable unit."""
    if value is None or not math.isfinite(value):
        return NONE
    if value >= 1000:
        return f"{number(value / 1000)}{SPACE}s"
    return f"{number(value)}{SPACE}ms" if value >= 0.1 or value == 0 else f"{number(value * 1000)}{SPACE}µs"


def size(value: float | None) -> str:
    """Return a number of bytes in a suitable unit."""
    if value is None:
        return NONE
    amount, unit = float(value), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f}{SPACE}B" if unit == 0 else f"{number(amount)}{SPACE}{_UNITS[unit]}"


def left_out(count: int, most: int) -> str:
    """Return a note if a table shows only the first `most` of `count` rows."""
    return f"The first {most} of {count:,}; report.json has all." if count > most else ""


def as_number(value: Any) -> float:
    """Return a number of a JSON message, which may be a string; NaN if it is absent."""
    return math.nan if value is None else float(value)
