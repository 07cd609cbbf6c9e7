"""Errors relative to the largest value, and what they may be."""

from __future__ import annotations

import math

import numpy as np

from splitdeconv.deconv.weights import Array, rounding_of

# Both errors are sums of the same products in two orders, so they are of equal size up to chance; 4 leaves room for it.
NOISE_FACTOR = 4.0
# Roundings of the output's type that any result may carry where the original happens to be exact.
FLOOR_ROUNDINGS = 64


def error_of(found: Array, wanted: Array) -> float:
    """Largest absolute error over the largest magnitude; values that are not finite on both sides count as equal."""
    if found.shape != wanted.shape:
        return math.inf
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return math.inf
    largest = float(np.max(np.abs(wanted), initial=0.0, where=finite)) or 1.0
    with np.errstate(invalid="ignore"):  # infinity less infinity, which does not count
        return float(np.max(np.abs(found - wanted), initial=0.0, where=finite)) / largest


def bound_of(before: float, dtype: str) -> float:
    """What the rewritten side's error may be, where the original's is ``before``."""
    return NOISE_FACTOR * before + FLOOR_ROUNDINGS * rounding_of(dtype)
