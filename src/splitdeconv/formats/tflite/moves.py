"""Operators that only move data, and those that compute sizes, in NumPy: on numbers of elements, or on the sizes.

Source: LiteRT's reference kernels, StableHLO's specification of ``pad`` and ``scatter``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import spread
from splitdeconv.formats.tflite.geometry import same_axis
from splitdeconv.formats.tflite.graph import Graph, indices
from splitdeconv.formats.tflite.schema import tfl

_MOST_ELEMENTS = 2**26  # of a result


class Unmoved(Exception):  # noqa: N818  # not an error: an answer on its way out
    """The operator does something else than moving elements."""


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """One operator with what it reads.

    Attributes:
        graph, operator: in its subgraph.
        given: its operands; None for one that is left out.
        zero: what stands for zero among the elements.
    """

    graph: Graph
    operator: int
    given: Sequence[Array | None]
    zero: int

    @property
    def options(self) -> Any:
        """The schema's options object; the second kind for operators that have that."""
        found = self.graph.operators[self.operator]
        return found.builtinOptions if found.builtinOptions2 is None else found.builtinOptions2

    def __getitem__(self, place: int) -> Array:
        found = self.given[place]
        if found is None:
            raise Unmoved
        return found

    def sizes(self, place: int) -> list[int]:
        """An operand as a list of sizes."""
        return [int(size) for size in self[place].reshape(-1)]


def _bounded(*sizes: int) -> None:
    if math.prod(sizes) > _MOST_ELEMENTS:
        raise Unmoved


def _reshape(of: Operands) -> Array:
    wanted = of.sizes(1) if len(of.given) > 1 else indices(of.options.newShape)
    return of[0].reshape(wanted)


def _squeeze(of: Operands) -> Array:
    axes = indices(of.options.squeezeDims) if of.options is not None else []
    return np.squeeze(of[0], tuple(axes) or None)


def _tile(of: Operands) -> Array:
    _bounded(of[0].size, *of.sizes(1))
    return np.tile(of[0], of.sizes(1))


def _broadcast(of: Operands) -> Array:
    _bounded(*of.sizes(1))
    return np.broadcast_to(of[0], of.sizes(1))


def _gather(of: Operands) -> Array:
    if of.options.batchDims:
        raise Unmoved
    return np.take(of[0], of[1], axis=of.options.axis)


def _gather_nd(of: Operands) -> Array:
    found: Array = of[0][tuple(np.moveaxis(of[1], -1, 0))]
    return found


def _concatenate(of: Operands) -> Array:
    if of.options.fusedActivationFunction:
        raise Unmoved
    return np.concatenate([of[place] for place in range(len(of.given))], axis=of.options.axis)


def _pack(of: Operands) -> Array:
    return np.stack([of[place] for place in range(len(of.given))], axis=of.options.axis)


def _slice(of: Operands) -> Array:
    bounds = zip(of.sizes(1), of.sizes(2), strict=True)
    found: Array = of[0][tuple(slice(begin, None if size < 0 else begin + size) for begin, size in bounds)]
    return found


def _strided_slice(of: Operands) -> Array:
    options = of.options
    if options.ellipsisMask or options.newAxisMask:
        raise Unmoved
    chosen: list[slice | int] = []
    for axis, (begin, end, step) in enumerate(zip(of.sizes(1), of.sizes(2), of.sizes(3), strict=True)):
        if options.shrinkAxisMask >> axis & 1:
            chosen.append(begin)
            continue
        first = None if options.beginMask >> axis & 1 else begin
        last = begin + end if options.offset else end
        chosen.append(slice(first, None if options.endMask >> axis & 1 else last, step))
    found: Array = of[0][tuple(chosen)]
    return found


def _pad(of: Operands) -> Array:
    widths = of[1].reshape(-1, 2)
    _bounded(*(size + int(more) for size, more in zip(of[0].shape, widths.sum(axis=1), strict=True)))
    filling = of[2].item() if len(of.given) > 2 else of.zero
    return np.pad(of[0], widths.tolist(), constant_values=filling)


def _mirror_pad(of: Operands) -> Array:
    mode = "reflect" if of.options.mode == tfl.MirrorPadMode.REFLECT else "symmetric"
    found: Array = np.pad(of[0], of[1].reshape(-1, 2).tolist(), mode=mode)  # type: ignore[call-overload]  # both are
    return found


def nearest(size: int, out_size: int, *, align_corners: bool = False, half_pixel_centers: bool = False) -> Array:
    """The input pixel of each output of RESIZE_NEAREST_NEIGHBOR, in float32 as LiteRT computes it."""
    corners = align_corners and out_size > 1
    scale = np.float32(size - 1) / np.float32(out_size - 1) if corners else np.float32(size) / np.float32(out_size)
    exact = (np.arange(out_size, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0)) * np.float32(scale)
    whole: Array = np.floor(exact + np.float32(0.5)) if align_corners else np.floor(exact)
    return np.clip(whole, 0, size - 1).astype(np.int64)


def _resize(of: Operands) -> Array:
    x: Array = of[0]
    _bounded(x.shape[0], *of.sizes(1), x.shape[3])
    flags = {"align_corners": of.options.alignCorners, "half_pixel_centers": of.options.halfPixelCenters}
    for axis, size in zip((1, 2), of.sizes(1), strict=True):
        x = np.take(x, nearest(x.shape[axis], size, **flags), axis=axis)
    return x


def _dilate(of: Operands) -> Array:
    steps = of.sizes(1)
    return _lattice(of[0], [0] * len(steps), [0] * len(steps), [step - 1 for step in steps], of[2].item())


def _stablehlo_pad(of: Operands) -> Array:
    options = of.options
    low, high, between = (
        indices(each) for each in (options.edgePaddingLow, options.edgePaddingHigh, options.interiorPadding)
    )
    return _lattice(of[0], low, high, between, of[1].item())


def _lattice(x: Array, low: Sequence[int], high: Sequence[int], between: Sequence[int], filling: int) -> Array:
    """``x`` with ``filling`` between its elements and around them; negative pads cut."""
    sizes = [(size - 1) * (more + 1) + 1 for size, more in zip(x.shape, between, strict=True)]
    _bounded(*(size + max(0, b) + max(0, e) for size, b, e in zip(sizes, low, high, strict=True)))
    opened = np.full(sizes, filling, x.dtype)
    opened[tuple(slice(None, None, more + 1) for more in between)] = x
    cut = opened[tuple(slice(max(0, -b), n - max(0, -e)) for n, b, e in zip(sizes, low, high, strict=True))]
    return np.pad(cut, [(max(0, b), max(0, e)) for b, e in zip(low, high, strict=True)], constant_values=filling)


def _scatter_nd(of: Operands) -> Array:
    _bounded(*of.sizes(2))
    found = np.full(of.sizes(2), of.zero, np.int64)
    places = tuple(np.moveaxis(of[0], -1, 0))
    hits = np.zeros(found.shape, np.int64)
    np.add.at(hits, places, 1)
    if hits.max(initial=0) > 1:
        raise Unmoved  # what falls onto one place is added
    found[places] = of[1]
    return found


def _scatter(of: Operands) -> Array:
    """StableHLO's scatter that overwrites; its windows are those of the updates."""
    options = of.options
    found: Array = of[0].copy()
    if not _overwrites(of.graph, options.updateComputationSubgraphIndex):
        raise Unmoved
    updates, starts = of[2], np.moveaxis(of[1], options.indexVectorDim, -1)
    windows = indices(options.updateWindowDims)
    inserted, scattered = indices(options.insertedWindowDims), indices(options.scatterDimsToOperandDims)
    batch = [axis for axis in range(updates.ndim) if axis not in windows]
    grid = np.indices(updates.shape)
    vectors = starts[tuple(grid[axis] for axis in batch)]
    places = [np.zeros(updates.shape, np.int64) for _ in found.shape]
    for axis, window in zip((axis for axis in range(found.ndim) if axis not in inserted), windows, strict=True):
        places[axis] = grid[window].copy()
    for number, axis in enumerate(scattered):
        places[axis] += vectors[..., number]
    found[tuple(places)] = updates
    return found


def _overwrites(graph: Graph, number: int) -> bool:
    """Whether a scatter's computation gives its second argument, the update."""
    subgraph = graph.root.subgraphs[number]
    return not (subgraph.operators or []) and indices(subgraph.outputs) == indices(subgraph.inputs)[1:]


def _transpose_conv(of: Operands) -> Array:
    """A depthwise TRANSPOSE_CONV of ones that do not overlap."""
    kernel, x, options = of[1].transpose(3, 0, 1, 2), np.moveaxis(of[2], -1, 1), of.options
    if (len(of.given) > 3 and of.given[3] is not None and np.any(of[3])) or options.fusedActivationFunction:
        raise Unmoved
    same, strides = options.padding == tfl.Padding.SAME, (options.strideH, options.strideW)
    numbers = zip(x.shape[2:], of.sizes(0)[1:3], kernel.shape[2:], strides, strict=True)
    found = spread(x, kernel, [same_axis(*each, same) for each in numbers], 1)
    if found is None:
        raise Unmoved
    return np.moveaxis(found, 1, -1)


def _depth_to_space(of: Operands) -> Array:
    block, (batch, rows, columns, depth) = of.options.blockSize, of[0].shape
    split: Array = of[0].reshape(batch, rows, columns, block, block, depth // block**2).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(batch, rows * block, columns * block, -1)


def _fill(of: Operands) -> Array:
    _bounded(*of.sizes(0))
    return np.full(of.sizes(0), of[1].item())


def _one(rule: Callable[[Operands], Array]) -> Callable[[Operands], list[Array]]:
    return lambda of: [rule(of)]


Rule = Callable[[Operands], list[Array]]
MOVES: Mapping[str, Rule] = {
    "BROADCAST_TO": _one(_broadcast),
    "CONCATENATION": _one(_concatenate),
    "DEPTH_TO_SPACE": _one(_depth_to_space),
    "DILATE": _one(_dilate),
    "EXPAND_DIMS": _one(lambda of: np.expand_dims(of[0], of[1].item())),
    "GATHER": _one(_gather),
    "GATHER_ND": _one(_gather_nd),
    "MIRROR_PAD": _one(_mirror_pad),
    "PACK": _one(_pack),
    "PAD": _one(_pad),
    "PADV2": _one(_pad),
    "RESHAPE": _one(_reshape),
    "RESIZE_NEAREST_NEIGHBOR": _one(_resize),
    "SCATTER_ND": _one(_scatter_nd),
    "SELECT_V2": _one(lambda of: np.where(of[0], of[1], of[2])),
    "SLICE": _one(_slice),
    "SPLIT": lambda of: np.split(of[1], of.options.numSplits, of[0].item()),
    "SPLIT_V": lambda of: np.split(of[0], np.cumsum(of[1])[:-1], of[2].item()),
    "SQUEEZE": _one(_squeeze),
    "STABLEHLO_PAD": _one(_stablehlo_pad),
    "STABLEHLO_SCATTER": _one(_scatter),
    "STRIDED_SLICE": _one(_strided_slice),
    "TILE": _one(_tile),
    "TRANSPOSE": _one(lambda of: np.transpose(of[0], of.sizes(1))),
    "TRANSPOSE_CONV": _one(_transpose_conv),
    "UNPACK": lambda of: [np.take(of[0], n, of.options.axis) for n in range(of.options.num)],
}
# Of sizes and constants only.
NUMBERS: Mapping[str, Rule] = {
    "ADD": _one(lambda of: of[0] + of[1]),
    "CAST": _one(lambda of: of[0]),
    "FILL": _one(_fill),
    "FLOOR_DIV": _one(lambda of: of[0] // of[1]),
    "MUL": _one(lambda of: of[0] * of[1]),
    "SUB": _one(lambda of: of[0] - of[1]),
}
# Without one of these nothing is stretched.
STRETCHING = frozenset(
    [
        *("BROADCAST_TO", "CONCATENATION", "DILATE", "GATHER", "GATHER_ND", "PACK", "PAD", "PADV2"),
        *("RESIZE_NEAREST_NEIGHBOR", "SCATTER_ND", "STABLEHLO_PAD", "STABLEHLO_SCATTER", "TILE", "TRANSPOSE_CONV"),
    ]
)
