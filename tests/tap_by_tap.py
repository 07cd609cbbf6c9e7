"""Small arrays simulated cycle by cycle and tap by tap on real operands: plain, slow, apart from the model.

Each simulator multiplies, adds up the convolution's output, and checks it against a direct sum before it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.accelerator.work import Convolution
from splitdeconv.deconv.weights import Array


@dataclass
class Tally:
    """What was counted."""

    cycles: int = 0
    macs: int = 0
    useful: int = 0
    map_reads: int = 0
    weight_reads: int = 0


def random_operands(conv: Convolution, seed: int) -> tuple[Array, Array]:
    """A padded input ``(N, C, *sizes)`` and a filter OIHW, non-zero exactly where the convolution says so."""
    rng = np.random.default_rng(seed)
    occupied = np.ones((), bool)
    for line in conv.lines:
        occupied = np.multiply.outer(occupied, np.frombuffer(line.occupied, np.uint8) != 0)
    x = rng.integers(1, 9, (conv.batch, conv.in_channels, *occupied.shape)) * occupied
    ins = conv.in_channels // conv.groups
    mask = np.broadcast_to(conv.mask(), (conv.groups, conv.out_channels // conv.groups, ins, *conv.kernel))
    weights = rng.integers(1, 9, mask.shape) * mask
    return x, weights.reshape(conv.out_channels, ins, *conv.kernel)


def _outputs(conv: Convolution) -> list[tuple[int, ...]]:
    return list(product(*(range(line.out_size) for line in conv.lines)))


def _taps(conv: Convolution) -> list[tuple[int, ...]]:
    return list(product(*(range(line.kernel) for line in conv.lines)))


def _source(conv: Convolution, out: tuple[int, ...], tap: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(o * line.stride + t * line.dilation for o, t, line in zip(out, tap, conv.lines, strict=True))


def _direct(conv: Convolution, x: Array, weights: Array) -> Array:
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    y = np.zeros((conv.batch, conv.out_channels, *(line.out_size for line in conv.lines)), np.int64)
    for image, channel, out in product(range(conv.batch), range(conv.out_channels), _outputs(conv)):
        first = channel // outs * ins
        for tap in _taps(conv):
            pixel = x[(image, slice(first, first + ins), *_source(conv, out, tap))]
            y[(image, channel, *out)] += (pixel * weights[(channel, slice(None), *tap)]).sum()
    return y


def dot_product_array(conv: Convolution, x: Array, weights: Array, rows: int, columns: int, skip: Skip) -> Tally:
    """Each cycle: ``rows`` input channels of one pixel against ``columns`` output channels, one tap."""
    tally, y = Tally(), np.zeros_like(_direct(conv, x, weights))
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for image, group in product(range(conv.batch), range(conv.groups)):
        for first_out, first_in in product(range(0, outs, columns), range(0, ins, rows)):
            lanes = slice(first_in, min(first_in + rows, ins))
            channels = slice(group * outs + first_out, group * outs + min(first_out + columns, outs))
            for tap, out in product(_taps(conv), _outputs(conv)):
                whole = x[(image, slice(None), *_source(conv, out, tap))]
                pixel = whole[group * ins : (group + 1) * ins][lanes]
                tile = weights[(channels, lanes, *tap)]
                tally.useful += int(((tile * pixel) != 0).sum())
                if (skip.activations and not pixel.any()) or (skip.weights and not tile.any()):
                    continue
                tally.cycles += 1
                tally.macs += tile.size
                tally.map_reads += pixel.size
                tally.weight_reads += tile.size
                y[(image, channels, *out)] += tile @ pixel
    np.testing.assert_array_equal(y, _direct(conv, x, weights))
    return tally


def regular_2d_array(conv: Convolution, x: Array, weights: Array, rows: int, columns: int, skip: Skip) -> Tally:
    """Each cycle: one weight against a block of output pixels, ``rows`` of the last axis but one × ``columns``."""
    tally, y = Tally(), np.zeros_like(_direct(conv, x, weights))
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    shape = [1] * len(conv.lines)
    shape[-1] = columns
    if len(shape) > 1:
        shape[-2] = rows
    corners = product(*(range(0, line.out_size, size) for line, size in zip(conv.lines, shape, strict=True)))
    for image, corner in product(range(conv.batch), list(corners)):
        ends = [min(c + size, line.out_size) for c, size, line in zip(corner, shape, conv.lines, strict=True)]
        block = list(product(*(range(c, e) for c, e in zip(corner, ends, strict=True))))
        for channel, tap in product(range(conv.out_channels), _taps(conv)):
            first = channel // outs * ins
            for lane in range(ins):
                weight = weights[(channel, lane, *tap)]
                pixels = [x[(image, first + lane, *_source(conv, out, tap))] for out in block]
                if (skip.weights and weight == 0) or (skip.activations and not any(pixels)):
                    continue
                tally.cycles += 1
                tally.macs += len(block)
                tally.weight_reads += 1
                for out, pixel in zip(block, pixels, strict=True):
                    y[(image, channel, *out)] += weight * pixel
    np.testing.assert_array_equal(y, _direct(conv, x, weights))
    return tally
