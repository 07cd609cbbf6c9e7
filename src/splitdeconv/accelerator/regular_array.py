"""The regular 2-D array: output pixels on the PEs, one weight broadcast each cycle, inputs forwarded between PEs.

Source: arXiv 1907.01773 (Eyeriss or ShiDianNao type); the details are this project's. The two innermost axes lie on
the array; outer axes follow one another. A cycle is skipped for a zero weight, or where all inputs of a block are zero.
"""

from __future__ import annotations

from math import prod

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import ArrayCounts
from splitdeconv.accelerator.sparsity import Skip, live_blocks, live_tiles, over_unique, pixels_per_tap
from splitdeconv.accelerator.work import Convolution, Line, dense_line, outer


def count(conv: Convolution, arch: Architecture, skip: Skip) -> ArrayCounts:
    """Cycles and accesses of one convolution.

    Each window of inputs is read from the buffer once for each input channel and (set of) output channels, and handed
    from PE to PE for the other taps; each PE keeps the sum of its pixel.
    """
    outer_lines, on_array = _on_array(conv)
    outer_pixels = [pixels_per_tap(Convolution((line,), 1, 1), skip.activations) for line in outer_lines]

    def totals(rows: int, columns: int) -> tuple[int, ...]:
        sharing = _sharing(on_array, rows, columns) if arch.side_by_side else 1
        live = live_tiles(conv, 1, sharing, skip.weights)
        by_row, by_column = (
            live_blocks(line, size, skip.activations) for line, size in zip(on_array, (rows, columns), strict=True)
        )
        shape = conv.kernel
        blocks = outer([*outer_pixels, by_row[0], by_column[0]]).reshape(shape) * conv.batch
        pixels = outer([*outer_pixels, by_row[1], by_column[1]]).reshape(shape) * conv.batch
        cycles, macs = int((live.tiles * blocks).sum()), int((live.pairs * pixels).sum())
        windows = _window(on_array[0], rows) * _window(on_array[1], columns) * prod(n.out_size for n in outer_lines)
        reads = live.anywhere * windows * prod(n.kernel for n in outer_lines) * conv.batch
        return cycles, macs, min(reads, macs), int((live.pairs * blocks).sum())

    cycles, macs, map_reads, weight_reads = over_unique(totals, arch.rows, arch.columns)
    none = cycles * 0
    return ArrayCounts(
        cycles, macs, map_reads, weight_reads, none + conv.out_elements, none, 2 * macs, macs - map_reads
    )


def _on_array(conv: Convolution) -> tuple[tuple[Line, ...], tuple[Line, Line]]:
    """Outer axes, and the two that lie on the array; a single axis lies along the columns of one row."""
    if len(conv.lines) == 1:
        return (), (dense_line(1, 1), conv.lines[0])
    return conv.lines[:-2], (conv.lines[-2], conv.lines[-1])


def _sharing(on_array: tuple[Line, Line], rows: int, columns: int) -> int:
    """Output channels that fit side by side."""
    first, second = on_array
    return max(1, rows // first.out_size) * max(1, columns // second.out_size)


def _window(line: Line, block: int) -> int:
    """Input pixels that all blocks of an axis read, the overlaps of neighbouring blocks read twice."""
    blocks = -(-line.out_size // block)
    return (line.out_size - blocks) * line.stride + blocks * line.extent
