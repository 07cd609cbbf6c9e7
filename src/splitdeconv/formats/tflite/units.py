"""Scales and zero-points of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array, Quantisation
from splitdeconv.formats.tflite.graph import Graph


def quantisation(graph: Graph, source: int, kernel: int, result: int) -> Quantisation:
    """What surrounds a deconv whose weights are integers; hybrid where its maps are float."""
    maps = graph.type_name(source)
    w_scale, w_zero = unit(graph.tensors[kernel])
    one, nothing = np.asarray(1, np.float32), np.asarray(0, np.int32)
    hybrid = maps == "float32"
    x_scale, x_zero = (one, nothing) if hybrid else unit(graph.tensors[source])
    y_scale, y_zero = (one, nothing) if hybrid else unit(graph.tensors[result])
    return Quantisation(maps, x_scale, int(x_zero), w_scale, w_zero, maps, y_scale, int(y_zero), fixed_point=True)


def unit(tensor: Any) -> tuple[Array, Array]:
    """Scale and zero-point of a quantised tensor, of shape ``()`` unless there is one for each channel."""
    scale = np.asarray(tensor.quantization.scale, np.float32)
    shape = () if scale.size == 1 else scale.shape
    return scale.reshape(shape), np.broadcast_to(zero_point(tensor), scale.shape).reshape(shape)


def zero_point(tensor: Any) -> Array:
    """Stored value that stands for 0: one, or one for each channel."""
    quantization = tensor.quantization
    stored = None if quantization is None else quantization.zeroPoint
    if stored is None or not len(stored):
        return np.asarray(0, np.int32)
    points = np.asarray(stored, np.int32)
    return points.reshape(()) if points.size == 1 else points


def dequantised(stored: Array, tensor: Any) -> Array:
    """Stored values as float32, as DEQUANTIZE gives them."""
    if stored.dtype.kind == "f":
        return stored.astype(np.float32)
    scale, zero = unit(tensor)
    shape = [1] * stored.ndim
    if scale.ndim:
        shape[tensor.quantization.quantizedDimension] = -1
    real = (stored.astype(np.int32) - zero.reshape(shape)) * scale.reshape(shape)
    return real.astype(np.float32)


def same_unit(graph: Graph, left: int, right: int) -> bool:
    """Whether equal stored values of two tensors mean equal numbers."""
    units = [unit_of(graph.tensors[tensor]) for tensor in (left, right)]
    return graph.type_name(left) == graph.type_name(right) and units[0] == units[1]


def unit_of(tensor: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and zero-points, empty where there are none."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return (), ()
    zero = () if quantization.zeroPoint is None else tuple(int(point) for point in quantization.zeroPoint)
    return tuple(float(scale) for scale in quantization.scale), zero
