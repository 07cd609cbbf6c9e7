"""DRAM traffic from an explicit tiling under the buffer sizes.

A layer is cut into tiles of output pixels, of output channels and of input channels (grouped layers also into
groups); all cuts are by powers of two. Two loop orders are tried: pixels outside (weights are fetched again for each
tile of pixels) and channels outside (inputs are fetched again for each tile of output channels). The cheapest tiling
that fits is taken. Source: this project; the loop orders are those of every blocked convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from splitdeconv.accelerator.work import LayerWork, Line
from splitdeconv.deconv.weights import Array


@dataclass(frozen=True, slots=True, eq=False)
class Tilings:
    """All tilings of one layer; arrays of one entry each, in elements.

    Attributes:
        in_tile, out_tile, weight_tile: what one tile holds.
        sums: whether partial sums of the output tile stay in the buffer (input channels are cut).
        in_reads, weight_reads: fetched from DRAM in total.
    """

    in_tile: Array
    out_tile: Array
    weight_tile: Array
    whole_weights: Array
    sums: Array
    in_reads: Array
    weight_reads: Array


@dataclass(frozen=True, slots=True)
class Traffic:
    """The tiling that was taken.

    Attributes:
        in_reads, weight_reads: elements fetched from DRAM.
        fits: whether any tiling fits the buffers.
    """

    in_reads: int
    weight_reads: int
    fits: bool


def best(
    work: LayerWork, *, maps_bits: int, weights_bits: int, data_bits: int, sum_bits: int, overlapped: bool
) -> Traffic:
    """The tiling with the least DRAM traffic whose tiles fit.

    Args:
        maps_bits, weights_bits: room for the tiles of one step (and, if ``overlapped``, of the next).
        data_bits, sum_bits: width of an element and of a partial sum.
        overlapped: whether the next tiles are fetched while these are computed.
    """
    options = tilings(work)
    share = 2 if overlapped else 1
    out_bits = np.where(options.sums, sum_bits, data_bits)
    maps = (options.in_tile * data_bits + options.out_tile * out_bits) * share
    weights = options.weight_tile * data_bits * np.where(options.whole_weights, 1, share)
    fitting = np.flatnonzero((maps <= maps_bits) & (weights <= weights_bits))
    if not fitting.size:
        return Traffic(0, 0, False)
    reads = options.in_reads[fitting] + options.weight_reads[fitting]
    taken = fitting[np.argmin(reads)]
    return Traffic(int(options.in_reads[taken]), int(options.weight_reads[taken]), True)


def smallest_tile_bits(work: LayerWork, data_bits: int, sum_bits: int, overlapped: bool) -> tuple[int, int]:
    """Smallest room for maps and for weights in which any tile fits."""
    options = tilings(work)
    share = 2 if overlapped else 1
    maps = options.in_tile * data_bits + options.out_tile * np.where(options.sums, sum_bits, data_bits)
    return int(maps.min()) * share, int(options.weight_tile.min()) * data_bits * share


@lru_cache(maxsize=1024)
def tilings(work: LayerWork) -> Tilings:
    """Every tiling of a layer, both loop orders."""
    rows = [
        row
        for tile, groups in product(_spatial_tiles(work), _group_cuts(work))
        for row in _channel_cuts(work, tile, groups)
    ]
    columns = np.array(rows, np.int64).T
    in_tile, out_tile, weight_tile, whole, sums, in_reads, weight_reads = columns
    return Tilings(in_tile, out_tile, weight_tile, whole != 0, sums != 0, in_reads, weight_reads)


def _channel_cuts(work: LayerWork, tile: tuple[int, int, int, int], groups: int) -> list[tuple[int, ...]]:
    """Cuts of the channels for one cut of the pixels; each in the better loop order."""
    in_pixels, out_pixels, count, read_pixels = tile
    ins = work.convolutions[0].in_channels // groups
    outs = sum(conv.out_channels for conv in work.convolutions) // groups
    weights = work.weight_elements // groups
    rows: list[tuple[int, ...]] = []
    for out_cut, in_cut in product(_halvings(outs), _halvings(ins)):
        weight_tile = _ceil(weights, out_cut * in_cut)
        orders = [
            (read_pixels * ins * in_times, weights * weight_times)
            for in_times, weight_times in fetch_times(count, out_cut, in_cut)
        ]
        in_reads, weight_reads = min(orders, key=sum)
        whole = out_cut * in_cut * groups == 1
        tiles = in_pixels * _ceil(ins, in_cut), out_pixels * _ceil(outs, out_cut), weight_tile
        rows.append((*tiles, whole, in_cut > 1, groups * in_reads, groups * weight_reads))
    return rows


def fetch_times(count: int, out_cut: int, in_cut: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """How often each input tile and each weight tile is fetched, a tile staying until the next one of its kind.

    Args:
        count: tiles of pixels.
        out_cut, in_cut: tiles of output and of input channels; the latter are always the innermost loop, so that sums
            need not leave the chip.

    Returns:
        Input and weight tiles with the pixels in the outer loop, and with the output channels in it.
    """
    pixels_outside = 1 if in_cut == 1 else out_cut, 1 if out_cut * in_cut == 1 else count
    channels_outside = 1 if count * in_cut == 1 else out_cut, 1 if in_cut == 1 else count
    return pixels_outside, channels_outside


def _group_cuts(work: LayerWork) -> tuple[int, ...]:
    groups = work.convolutions[0].groups
    return (1,) if groups == 1 else (1, groups)


def _spatial_tiles(work: LayerWork) -> list[tuple[int, int, int, int]]:
    """Cuts of the pixels: input pixels and output pixels of a tile, number of tiles, input pixels read in total.

    The outermost axis is cut down to single rows before the next one is cut. Each convolution of a layer works on the
    same tile, so the largest of their windows decides.
    """
    batch = work.convolutions[0].batch
    axes = [_widest([conv.lines[n] for conv in work.convolutions]) for n in range(len(work.convolutions[0].lines))]
    found = []
    sizes = [line.out_size for line in axes]
    for number, line in enumerate(axes):
        for cut in _halvings(line.out_size):
            if cut == 1 and number > 0:
                continue
            sizes[number] = _ceil(line.out_size, cut)
            found.append(_tile(axes, sizes, batch))
    return found


def _tile(axes: list[Line], sizes: list[int], batch: int) -> tuple[int, int, int, int]:
    counts = [_ceil(line.out_size, size) for line, size in zip(axes, sizes, strict=True)]
    ins = [min(line.stored, (size - 1) * line.stride + line.extent) for line, size in zip(axes, sizes, strict=True)]
    reads = [
        min(line.stored + (count - 1) * max(0, line.extent - line.stride), count * size)
        for line, count, size in zip(axes, counts, ins, strict=True)
    ]
    return prod(ins), prod(sizes), batch * prod(counts), batch * prod(reads)


def _widest(lines: list[Line]) -> Line:
    """The line with the largest window; lines of one axis differ in it by a few pixels."""
    return max(lines, key=lambda line: (line.out_size, line.extent))


def _halvings(size: int) -> list[int]:
    """1, 2, 4, … and ``size``."""
    return sorted({*(1 << n for n in range(size.bit_length())), size} - {0})


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
