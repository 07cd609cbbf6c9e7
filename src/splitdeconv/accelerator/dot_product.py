"""The dot-production array: each cycle, rows input channels × columns output channels of one pixel and one tap.

Source: arXiv 1907.01773 (DianNao type). ``cycles = Σ ceil(Cin/rows)·ceil(Cout/columns)·taps·pixels``, less what is
skipped: a pixel whose channels are all zero, a tile of rows × columns weights that are all zero.
"""

from __future__ import annotations

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import ArrayCounts
from splitdeconv.accelerator.sparsity import Skip, live_tiles, over_unique, pixels_per_tap
from splitdeconv.accelerator.work import Convolution
from splitdeconv.deconv.weights import Array


def count(conv: Convolution, arch: Architecture, skip: Skip) -> ArrayCounts:
    """Cycles and accesses of one convolution.

    Inputs are read once each cycle and shared by all columns. Output-stationary, weights are read each cycle and sums
    stay in registers; weight-stationary, each tile of weights is read once and sums go through the maps buffer.
    """

    def totals(rows: int, columns: int) -> tuple[int, ...]:
        live = live_tiles(conv, rows, columns, skip.weights)
        pixels = pixels_per_tap(conv, skip.activations) * conv.batch
        reached = pixels > 0
        sums: list[Array] = [each * pixels for each in (live.tiles, live.in_lanes, live.out_lanes, live.pairs)]
        return (*(int(each.sum()) for each in sums), int((live.pairs * reached).sum()))

    cycles, map_reads, sums, macs, resident = over_unique(totals, arch.rows, arch.columns)
    if arch.stationary == "output":
        return ArrayCounts(cycles, macs, map_reads, macs, sums * 0 + conv.out_elements, sums * 0, 2 * sums, sums * 0)
    through = 2 * sums - conv.out_elements * (sums > 0)
    return ArrayCounts(cycles, macs, map_reads, resident, sums * 0 + conv.out_elements, through, macs, sums * 0)
