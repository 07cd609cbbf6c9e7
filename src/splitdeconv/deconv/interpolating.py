"""What an interpolation computes, in float64: the definition of :mod:`splitdeconv.deconv.interpolation`."""

from __future__ import annotations

import numpy as np

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.weights import Array


def interpolate(x: Array, how: Interpolation, first: int = 2) -> Array:
    """A map whose spatial axes begin with axis ``first``, interpolated."""
    for number in range(len(how.scales or how.sizes)):
        axis = first + number
        x = np.moveaxis(np.tensordot(x, weights_of(how, number, x.shape[axis]), (axis, 1)), -1, axis)
    return x


def weights_of(how: Interpolation, number: int, size: int) -> Array:
    """Weights of an axis of ``size`` pixels, ``(outputs, pixels)``; each row sums to 1.

    Source: ONNX Resize-19; PyTorch's ``adaptive_avg_pool`` for areas.
    """
    outs = how.out_sizes([size] * len(how.scales or how.sizes))[number] or 0
    if how.kind == "area":
        return _means(outs, size)
    at = _places(how, outs, size, how.scales[number] if how.scales else outs / size)
    pixels = np.floor(at)[:, np.newaxis] + (range(2) if how.kind == "linear" else range(-1, 3))
    found = _kernel(how, np.abs(at[:, np.newaxis] - pixels))
    if how.excludes:
        found = np.where((pixels < 0) | (pixels >= size), 0, found)
        found /= found.sum(axis=1, keepdims=True)
    result = np.zeros((outs, size))
    np.add.at(result, (np.arange(outs)[:, np.newaxis], np.clip(pixels, 0, size - 1).astype(np.int64)), found)
    return result


def _places(how: Interpolation, outs: int, size: int, scale: float) -> Array:
    """Where the outputs lie among the pixels."""
    outputs = np.arange(outs, dtype=np.float64)
    match how.coordinates:
        case "asymmetric":
            return np.asarray(outputs / scale)
        case "align_corners":
            return np.asarray(outputs * (size - 1) / max(1, outs - 1))
        case "pytorch_half_pixel" if outs == 1:
            return outputs
    return np.asarray((outputs + 0.5) / scale - 0.5)


def _kernel(how: Interpolation, distance: Array) -> Array:
    """The weight of a pixel at ``distance``. Source: Keys 1981, for cubics."""
    if how.kind == "linear":
        return np.asarray(1 - distance)
    a = how.coefficient
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _means(outs: int, size: int) -> Array:
    """Of the pixels that each output touches."""
    found = np.zeros((outs, size))
    for number in range(outs):
        pixels = slice(number * size // outs, -(-(number + 1) * size // outs))
        found[number, pixels] = 1 / (pixels.stop - pixels.start)
    return found
