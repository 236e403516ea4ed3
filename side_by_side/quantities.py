"""Formats numbers, seconds and bytes for people: three significant digits and a unit of fitting size."""

import math

#: Between a number and its unit, where no line may break.
_SPACE = "\N{NO-BREAK SPACE}"


def number(value: float) -> str:
    """Return a count or a rate as text: 83,400, 512, 4.2, 0.031."""
    return f"{_three_digits(value):,.10g}"


def seconds(value: float) -> str:
    """Return seconds as text: 210 µs, 4.6 ms, 12.4 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= 0.9995 * size or (unit == "µs" and value):
            return f"{number(value / size)}{_SPACE}{unit}"
    return f"0{_SPACE}s"


def memory(value: float) -> str:
    """Return bytes as text: 14.2 MB, 33.7 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{number(value / size)}{_SPACE}{unit}"
    return f"{number(value)}{_SPACE}bytes"


def interval(low: str, high: str) -> str:
    """Return a range as text, with the unit once if both have the same."""
    figure, _, unit = low.partition(_SPACE)
    return f"{figure if high.partition(_SPACE)[2] == unit else low} – {high}"


def _three_digits(value: float) -> float:
    if not value or not math.isfinite(value):
        return value
    return round(value, 2 - math.floor(math.log10(abs(value))))
