"""From a deconv's kernel to the filters of convolutions, as operations that only move: the one description of it.

NumPy does them when a model is written, PyTorch in each forward, and ONNX operators where a model computes its weights
when it runs. Only behind an upsampling are taps summed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from splitdeconv.deconv.ops import Conv, Dim, Layout, Op, Reshape, Slice, Take, Transpose
from splitdeconv.deconv.phases import Tap, Taps
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import original_taps


def filter_steps(conv: Conv, weights_shape: Sequence[int], layout: Layout = "NCHW") -> tuple[Op, ...]:
    """The operations, one after the other, that make the filter of ``conv`` of a deconv's kernel.

    Before: the kernel, IOHW, of the deconv's ``weights_shape``.
    After: OIHW, ``(total_channels, in_channels // groups, *conv.kernel)``; of the layout ``NHWC`` OHWI.

    Args:
        conv: which taps go where.
        weights_shape: of the deconv.
        layout: of the filter.
    """
    rows, outs, *kernel = weights_shape
    groups, ins, blocks = conv.groups, conv.in_channels // conv.groups, len(conv.blocks)
    places = tuple(_places(taps, kernel) for block in conv.blocks for taps in product(*block))
    # axes then: block, place, group, output, input
    order = (2, 0, 3) if conv.order == "block_major" else (2, 3, 0)
    last = layout != "NCHW"
    shape = (conv.total_channels, *conv.kernel, ins) if last else conv.filter_shape
    return (
        *_rows(rows, conv.first_row, conv.in_channels, kernel),
        _reshape(groups, ins, outs, math.prod(kernel)),
        Transpose((3, 0, 2, 1)),
        Take(places, (blocks, math.prod(conv.kernel))),
        Transpose((*order, 1, 4) if last else (*order, 4, 1)),
        _reshape(*shape),
    )


def own_steps(groups: int, first: tuple[int, int] | None, weights_shape: Sequence[int]) -> tuple[Op, ...]:
    """The operations that make a written-out deconv's kernel of the weight of the model's convolution.

    Before: OIHW. After: IOHW, of ``weights_shape``.

    Args:
        groups: of the convolution.
        first: the rows that come first, from the first to behind the last; None where all keep their order.
        weights_shape: of the kernel.
    """
    rows, outs, *kernel = weights_shape
    steps = (
        _reshape(groups, outs, rows // groups, math.prod(kernel)),
        Transpose((0, 2, 1, 3)),
        _reshape(*weights_shape),
    )
    if first is None or first[0] == 0:
        return steps
    order = (*range(*first), *range(first[0]), *range(first[1], rows))
    return (*steps, Take(tuple((row,) for row in order), (rows,)))


def composite_steps(deconv: Deconv, weights_shape: Sequence[int]) -> tuple[Op, ...]:
    """The operations that make the kernel of the transposed convolution that a written-out deconv is.

    Before: the convolution's kernel, IOHW. After: IOHW of ``deconv.kernel_shape``.

    Args:
        deconv: it.
        weights_shape: of the kernel, which may have rows for a map beside the stretched one too.
    """
    rows, outs, *kernel = weights_shape
    taps = [original_taps(deconv, number, tuple(range(axis.kernel))) for number, axis in enumerate(deconv.axes)]
    return (
        *_rows(rows, deconv.first_row, deconv.in_channels, kernel),
        *tap_steps(taps, (deconv.in_channels, outs, *kernel)),
    )


def tap_steps(taps: Sequence[Taps], weights_shape: Sequence[int]) -> tuple[Op, ...]:
    """The operations that take taps of a kernel.

    Before: the kernel, IOHW, of ``weights_shape``. After: IOHW, one place for each of ``taps`` of each axis.
    """
    ins, outs, *kernel = weights_shape
    places = tuple(_places(each, kernel) for each in product(*taps))
    return (
        _reshape(ins, outs, math.prod(kernel)),
        Transpose((2, 0, 1)),
        Take(places, (len(places),)),
        Transpose((1, 2, 0)),
        _reshape(ins, outs, *map(len, taps)),
    )


def _rows(rows: int, first: int, wanted: int, kernel: Sequence[int]) -> tuple[Op, ...]:
    """Of all rows of a kernel those of one map."""
    rest = (0,) * (1 + len(kernel))
    return (Slice((first, *rest), (rows - first - wanted, *rest)),) if wanted < rows else ()


def _reshape(*sizes: int) -> Reshape:
    return Reshape(tuple(Dim(size) for size in sizes))


def _places(taps: Sequence[Tap], kernel: Sequence[int]) -> tuple[int, ...]:
    """Numbers of the taps of the flattened kernel, row-major, that make one tap; none where one axis has none."""
    flat = [0]
    for tap, size in zip(taps, kernel, strict=True):
        one = () if tap is None else tap if isinstance(tap, range) else (tap,)
        flat = [place * size + each for place in flat for each in one]
    return tuple(flat)
