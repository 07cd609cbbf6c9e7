"""Data movement in NumPy: what the operations that compute nothing do with an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitdeconv.deconv.ops import (
    DepthToSpace,
    Layout,
    Op,
    Pad,
    Part,
    Relayout,
    Repeat,
    Reshape,
    Slice,
    Take,
    Transpose,
)

Array = NDArray[Any]


def move(op: Op, x: Array) -> Array:
    """An operation that only moves the elements of one array."""
    match op:
        case Pad():
            return np.pad(x, list(zip(op.begin, op.end, strict=True)))
        case Slice():
            return at(x, [slice(b, n - e) for b, e, n in zip(op.begin, op.end, x.shape, strict=True)])
        case Reshape():
            return np.reshape(x, [size or 0 for size in op.shape(x.shape)])
        case Transpose():
            return np.transpose(x, op.perm)
        case Take():
            return take(x, op.places)
        case Part():
            size = x.shape[op.axis] // op.parts
            return np.take(x, range(op.index * size, (op.index + 1) * size), axis=op.axis)
        case Relayout():
            return x
        case Repeat():
            for axis, factor in enumerate(op.factors):
                x = np.repeat(x, factor, axis=axis)
            return x
        case DepthToSpace():
            return from_channels_first(_depth_to_space(to_channels_first(x, op.layout), op), op.layout)
    raise TypeError(f"the interpreter does not know {type(op).__name__}")


def take(x: Array, places: Sequence[tuple[int, ...]]) -> Array:
    """Rows of ``x``, ``(len(places), …)`` of its type; sums are taken in float64 or int64, and rounded once."""
    summed = any(len(each) > 1 for each in places)
    wide = x.astype(np.int64 if x.dtype.kind in "iu" else np.float64) if summed else x
    known: dict[tuple[int, ...], Array] = {(): np.zeros(x.shape[1:], wide.dtype)}
    for each in places:
        if each not in known:
            known[each] = wide[each[0]] if len(each) == 1 else wide[list(each)].sum(axis=0)
    return np.stack([known[each] for each in places]).astype(x.dtype, copy=False)


def _depth_to_space(x: Array, op: DepthToSpace) -> Array:
    """ONNX's definition, DCR or CRD; ``x`` is NCHW."""
    batch, depth, height, width = x.shape
    block, channels = op.block, depth // op.block**2
    if op.order == "block_major":
        split = x.reshape(batch, block, block, channels, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        split = x.reshape(batch, channels, block, block, height, width).transpose(0, 1, 4, 2, 5, 3)
    return np.reshape(split, (batch, channels, height * block, width * block))


def at(x: Array, index: Sequence[int | slice]) -> Array:
    """The view of ``x`` that ``index`` selects on its last axes."""
    everything = (slice(None),) * (x.ndim - len(index))
    view: Array = x[everything + tuple(index)]
    return view


def to_channels_first(x: Array, layout: Layout) -> Array:
    """``(N, *sizes, C)`` as ``(N, C, *sizes)``, where it is not so already."""
    return x if layout == "NCHW" else np.moveaxis(x, -1, 1)


def from_channels_first(x: Array, layout: Layout) -> Array:
    """``(N, C, *sizes)`` in ``layout``."""
    return x if layout == "NCHW" else np.moveaxis(x, 1, -1)
