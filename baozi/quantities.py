"""Formats numbers, counts, durations, sizes and dates for people, in every table, sentence and picture."""

import math
from datetime import UTC, datetime


def number(value: float) -> str:
    """Return a measured number with three significant digits: 83,400, 512, 4.2, 0.031."""
    return f"{_three_digits(value):,.10g}"


def count(value: int | None) -> str:
    """Return an exact count: 83,412. ``?`` if it is not known."""
    return "?" if value is None else f"{value:,}"


def seconds(value: float) -> str:
    """Return a measured duration: 210 µs, 4.6 ms, 12.4 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= 0.9995 * size or (unit == "µs" and value):
            return f"{number(value / size)} {unit}"
    return "0 s"


def age(value: float | None) -> str:
    """Return how long something has lasted, given in seconds: 12 s, 3.5 min, 2.0 h, 4.1 d. ``?`` for None."""
    if value is None:
        return "?"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if value >= length:
            return f"{value / length:.1f} {unit}"
    return f"{value:.0f} s"


def memory(value: float) -> str:
    """Return bytes: 340 bytes, 14.2 MB, 33.7 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value)} bytes"


def date(epoch: float | None) -> str:
    """Return a time in UTC: 2026-11-28 02:15:20. ``–`` for None."""
    try:
        return "–" if epoch is None else f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a foreign message may contain any time
        return f"{epoch:g}"


def interval(low: str, high: str) -> str:
    """Return a range of two formatted numbers, with the unit once if both have the same: 1.1 – 2.2 ms."""
    figure, _, unit = low.partition(" ")
    return f"{figure if high.partition(' ')[2] == unit else low} – {high}"


def _three_digits(value: float) -> float:
    if not value or not math.isfinite(value):
        return value
    return round(value, 2 - math.floor(math.log10(abs(value))))
