"""Exact counts of what is not zero, tap by tap: pixels, tiles of channels, and blocks of pixels.

Zeros of maps come from padding and zero insertion and are products over the axes; zeros of filters come from the split
(a product over the axes in each block of channels) or from trained weights (any pattern).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from splitdeconv.accelerator.work import Convolution, Line, outer
from splitdeconv.deconv.weights import Array


@dataclass(frozen=True, slots=True)
class Skip:
    """Which zeros a processor does not spend cycles on.

    Attributes:
        activations: pixels whose channels are all zero.
        weights: weights (or tiles of weights) that are zero.
    """

    activations: bool = False
    weights: bool = False

    def __str__(self) -> str:
        return {(0, 0): "none", (1, 0): "activations", (0, 1): "weights", (1, 1): "both"}[
            int(self.activations), int(self.weights)
        ]


SKIPS = {str(skip): skip for skip in (Skip(), Skip(True), Skip(False, True), Skip(True, True))}


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of ``in_tile × out_tile`` channels that hold a non-zero weight; each array has the kernel's shape.

    Attributes:
        tiles: how many such tiles there are at a tap, over all groups.
        in_lanes, out_lanes: input and output channels in them (the last tile of a group may be smaller).
        pairs: pairs of input and output channel in them.
        anywhere: tiles that hold a non-zero weight at any tap.
    """

    tiles: Array
    in_lanes: Array
    out_lanes: Array
    pairs: Array
    anywhere: int


@lru_cache(maxsize=4096)
def live_tiles(conv: Convolution, in_tile: int, out_tile: int, skip_weights: bool) -> Tiles:
    """Tiles that must be computed at each tap: all of them, or those with a non-zero weight."""
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    in_sizes, out_sizes = _tile_sizes(ins, in_tile), _tile_sizes(outs, out_tile)
    mask = conv.mask() if skip_weights else np.ones((conv.groups, outs, 1, *conv.kernel), bool)
    live = _any_in_tiles(_any_in_tiles(mask, 1, out_tile), 2, in_tile)
    live = np.broadcast_to(live, (conv.groups, len(out_sizes), len(in_sizes), *conv.kernel)).astype(np.int64)
    spread = (1,) * len(conv.kernel)
    by_in, by_out = in_sizes.reshape(1, 1, -1, *spread), out_sizes.reshape(1, -1, 1, *spread)
    tiles, in_lanes, out_lanes, pairs = (
        each.sum(axis=(0, 1, 2)) for each in (live, live * by_in, live * by_out, live * by_in * by_out)
    )
    anywhere = int(live.max(axis=tuple(range(3, live.ndim))).sum())
    return Tiles(tiles, in_lanes, out_lanes, pairs, anywhere)


def _tile_sizes(channels: int, tile: int) -> Array:
    """Sizes of the tiles that ``channels`` are cut into."""
    return np.minimum(tile, channels - np.arange(0, channels, tile))


def _any_in_tiles(mask: Array, axis: int, tile: int) -> Array:
    """Whether anything is set in each tile along ``axis``."""
    if mask.shape[axis] == 1:
        return mask
    found: Array = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], tile), axis=axis)
    return found


@lru_cache(maxsize=4096)
def live_weights(conv: Convolution) -> Array:
    """Non-zero weights at each tap, over all channels and groups; the kernel's shape."""
    mask = conv.mask()
    alike = conv.in_channels // conv.groups // mask.shape[2]
    counts: Array = mask.sum(axis=(0, 1, 2)) * alike
    return counts


@lru_cache(maxsize=4096)
def pixels_per_tap(conv: Convolution, skip_activations: bool) -> Array:
    """Output pixels (of one image) that must be computed at each tap; the kernel's shape."""
    return outer([_line_pixels(line, skip_activations) for line in conv.lines])


@lru_cache(maxsize=4096)
def _line_pixels(line: Line, skip_activations: bool) -> Array:
    if skip_activations:
        counts: Array = line.live().sum(axis=1, dtype=np.int64)
        return counts
    return np.full(line.kernel, line.out_size, np.int64)


@lru_cache(maxsize=4096)
def live_blocks(line: Line, block: int, skip_activations: bool) -> tuple[Array, Array]:
    """Blocks of ``block`` neighbouring outputs that meet an occupied pixel at a tap, and the outputs in them.

    Returns:
        Two arrays of shape ``(kernel,)``: blocks, and outputs in those blocks.
    """
    sizes = _tile_sizes(line.out_size, block)
    live = line.live() if skip_activations else np.ones((line.kernel, line.out_size), bool)
    blocks = np.logical_or.reduceat(live, np.arange(0, line.out_size, block), axis=1)
    return blocks.sum(axis=1, dtype=np.int64), (blocks * sizes).sum(axis=1, dtype=np.int64)


@lru_cache(maxsize=4096)
def useful_macs(conv: Convolution) -> int:
    """Products of which neither operand is zero by construction or training."""
    return int(conv.batch * (live_weights(conv) * pixels_per_tap(conv, True)).sum())


def over_unique(function: Callable[..., tuple[int, ...]], *parameters: Array) -> tuple[Array, ...]:
    """``function`` of broadcast integer parameters, called once for each distinct combination.

    Returns:
        One array of the broadcast shape for each number that ``function`` returns.
    """
    spread = np.broadcast_arrays(*parameters)
    if not spread[0].ndim:
        return tuple(np.asarray(number) for number in function(*(int(each) for each in spread)))
    rows = np.stack([each.ravel() for each in spread], axis=1)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    results = np.array([function(*(int(number) for number in row)) for row in unique], dtype=np.int64)
    gathered = results[inverse.ravel()]
    return tuple(gathered[:, column].reshape(spread[0].shape) for column in range(gathered.shape[1]))
