"""Numbers as people read them, the same on the terminal and on pages."""

from __future__ import annotations

from splitdeconv.results.times import Measurement

NO_NUMBER = "–"


def count(number: float) -> str:
    """A large number: ``109.77 M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:.0f}"


def size_in_bytes(number: int | None) -> str:
    """``812 B``, ``6.62 MB``."""
    return NO_NUMBER if number is None else f"{count(number)}{'' if number >= 1e3 else ' '}B"


def milliseconds(time: Measurement | None, unit: str = "") -> str:
    """A median, with half of its interquartile range where it was measured: ``1.23 ±3%``, ``1.23 ms ±3%``."""
    if time is None:
        return NO_NUMBER
    median = f"{time.median_ms:.3g} {unit}".rstrip()
    if time.kind == "estimated" or not time.median_ms:
        return median
    return f"{median} ±{(time.high_ms - time.low_ms) / 2 / time.median_ms:.0%}"


def times_of(ratio: float | None) -> str:
    """A ratio with its sign: ``2.41×``."""
    return NO_NUMBER if ratio is None else f"{ratio:.2f}×"


def number_of(count: int, one: str) -> str:
    """A count with its noun: ``1 site``, ``3 sites``."""
    return f"{count} {one if count == 1 else one + 's'}"
