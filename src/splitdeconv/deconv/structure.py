"""Structure in a deconv's weights: zeros between channels, and filters that are a product of a vector for each axis."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from splitdeconv.deconv.spec import Axis
from splitdeconv.deconv.weights import Array

_FLOATS = ("float16", "float32", "float64")
_EXACT = 2**53  # whole numbers up to here are exact in float64


def diagonal_of(kernel: Array, zero: Array | int = 0) -> Array | None:
    """The filter of each channel, ``(C, 1, *K)``, of a dense kernel IOHW that is zero between channels; else None.

    Args:
        kernel: of any type.
        zero: what stands for 0: a number, or one for each output channel, ``(1, C, 1, …)``.
    """
    channels = kernel.shape[0]
    if channels != kernel.shape[1] or channels == 1:
        return None
    zeros = np.broadcast_to(np.asarray(zero), kernel.shape)
    numbers = np.arange(channels)
    if np.any(kernel[0, 1] != zeros[0, 1]):
        return None
    diagonal = kernel[numbers, numbers]
    if np.count_nonzero(kernel != zeros) != np.count_nonzero(diagonal != zeros[numbers, numbers]):
        return None
    return np.ascontiguousarray(diagonal[:, np.newaxis])


def dense_of(diagonal: Array, zero: Array | int = 0) -> Array:
    """A dense kernel ``(C, C, *K)`` with the filters ``(C, 1, *K)`` on its diagonal, and ``zero`` elsewhere."""
    channels, *kernel = len(diagonal), *diagonal.shape[2:]
    dense = np.empty((channels, channels, *kernel), diagonal.dtype)
    dense[...] = zero
    numbers = np.arange(channels)
    dense[numbers, numbers] = diagonal[:, 0]
    return dense


def vectors_of(kernel: Array) -> tuple[Array, ...] | None:
    """One vector for each axis whose product is, without any rounding, the filter that all channels share; else None.

    Args:
        kernel: of a depthwise deconv, ``(C, 1, *K)``.
    """
    first = kernel[0, 0]
    if kernel.dtype.name not in _FLOATS or not np.array_equal(kernel, np.broadcast_to(first, kernel.shape)):
        return None
    found = _whole_numbers(first)
    if found is None:
        return None
    whole, unit = found
    pivot = tuple(int(place) for place in np.unravel_index(int(np.argmax(np.abs(whole))), whole.shape))
    lines = [_line(whole, pivot, axis) for axis in range(whole.ndim)]
    vectors = [line // np.gcd.reduce(line) for line in lines]
    # Vectors without a common divisor have a product without one, so the rest is a whole number.
    rest = int(whole[pivot]) // math.prod(int(vector[place]) for vector, place in zip(vectors, pivot, strict=True))
    if not np.array_equal(whole, rest * reduce(np.multiply.outer, [vector.astype(object) for vector in vectors])):
        return None
    return _scaled(vectors, rest * unit, kernel.dtype)


def _line(values: Array, place: tuple[int, ...], axis: int) -> Array:
    """All values along ``axis`` through ``place``."""
    line: Array = values[tuple(slice(None) if number == axis else each for number, each in enumerate(place))]
    return line


def _whole_numbers(values: Array) -> tuple[Array, float] | None:
    """Values as int64 in a unit that is a power of two, and the unit; None for only zeros, or too many digits."""
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all() or not wide.any():
        return None
    denominator = max(value.as_integer_ratio()[1] for value in wide.reshape(-1).tolist())
    if denominator * np.abs(wide).max() > _EXACT:
        return None
    return (wide * denominator).astype(np.int64), 1 / denominator


def _scaled(vectors: list[Array], unit: float, dtype: np.dtype[Any]) -> tuple[Array, ...] | None:
    """The vectors with entries below 1, by powers of two, and the rest in the first; None where the type rounds it."""
    exponents = [math.frexp(float(np.abs(vector).max()))[1] for vector in vectors]
    scaled = [np.ldexp(vector.astype(np.float64), -e) for vector, e in zip(vectors, exponents, strict=True)]
    scaled[0] = scaled[0] * math.ldexp(unit, sum(exponents))
    stored = tuple(vector.astype(dtype) for vector in scaled)
    same = all(np.array_equal(one.astype(np.float64), other) for one, other in zip(stored, scaled, strict=True))
    return stored if same else None


def axis_matrix(vector: Array, axis: Axis) -> Array:
    """``(in_size, out_size)``: what each input pixel of a deconv's axis gives to each output pixel."""
    assert axis.in_size is not None, "a matrix has a size"
    assert axis.out_size is not None, "a matrix has a size"
    matrix = np.zeros((axis.in_size, axis.out_size), vector.dtype)
    for tap, value in enumerate(vector):
        outputs = np.arange(axis.in_size) * axis.stride + tap * axis.dilation - axis.pad_begin
        inside = (outputs >= 0) & (outputs < axis.out_size)
        matrix[np.flatnonzero(inside), outputs[inside]] = value
    return matrix
