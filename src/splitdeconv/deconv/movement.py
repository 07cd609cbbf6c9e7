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
_AT_ONCE = 2**18  # bytes of a kernel that are moved at once, all taps of them: a cache holds them


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


def moved(x: Array, steps: Sequence[Op], empty: Array | int = 0) -> Array:
    """``x`` after the steps of :mod:`splitdeconv.deconv.filters`, contiguous and of its type.

    What is taken is written where it ends, so that no value is held twice. Sums are taken in float64 or int64, and
    rounded once.

    Args:
        x: the kernel.
        steps: the last ones are Take, Transpose and Reshape.
        empty: what places have that name no row; broadcast to the result.
    """
    *before, take, turn, last = steps
    assert isinstance(take, Take), "so the steps of filters end"
    assert isinstance(turn, Transpose), "so the steps of filters end"
    for op in before:
        x = move(op, x)
    shape = turn.shape(take.shape(x.shape))
    found = np.full([size or 0 for size in last.shape(shape)], empty, x.dtype)
    rows = np.transpose(np.reshape(found, [size or 0 for size in shape]), np.argsort(turn.perm))
    wide = np.int64 if x.dtype.kind in "iu" else np.float64
    step = max(1, _AT_ONCE * x.shape[-2] // max(1, x.nbytes))
    for begin in range(0, x.shape[-2], step):
        part = (..., slice(begin, begin + step), slice(None))
        for index, place in zip(np.ndindex(*take.sizes), take.places, strict=True):
            if len(place) == 1:
                rows[index][part] = x[place[0]][part]
            elif place:
                rows[index][part] = np.sum([x[row][part] for row in place], axis=0, dtype=wide)
    return found


def numbered(shape: Sequence[int]) -> Array:
    """Integers by which elements are known again, sums of them too."""
    return np.random.default_rng(0).integers(2**60, size=shape)


def keeps_order(steps: Sequence[Op], shape: Sequence[int]) -> bool:
    """Whether :func:`moved` leaves all elements of an array of ``shape`` in their order, and adds none."""
    before = numbered(shape).reshape(-1)
    return np.array_equal(moved(before.reshape(shape), steps).reshape(-1), before)


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
