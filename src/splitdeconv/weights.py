"""From a deconv's weights to the filters and per-channel parameters of a program's convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitdeconv.ops import Conv, Taps

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained values of a deconv.

    Attributes:
        kernel: shape IOHW, ``(in_channels, out_channels // groups, *kernel)``.
        bias: shape ``(out_channels,)``, or None.
    """

    kernel: Array
    bias: Array | None = None


def conv_filter(kernel: Array, conv: Conv, zero: Array | int = 0) -> Array:
    """The filter of ``conv``, its values copied from the deconv's kernel.

    Args:
        kernel: IOHW, ``(in_channels, out_channels // groups, *kernel)``.
        conv: which taps go where.
        zero: what an empty place holds: a number, or one for each output channel, shape ``(out_channels,)`` (the
            zero-points of quantised weights).

    Returns:
        OIHW, ``(total_channels, in_channels // groups, *conv.kernel)``, of the kernel's type.
    """
    groups, per_group = conv.groups, conv.out_channels // conv.groups
    blocks = []
    for block in conv.blocks:
        taken = _take(kernel, block, zero, groups)
        split = taken.reshape(groups, conv.in_channels // groups, per_group, *conv.kernel)
        blocks.append(np.swapaxes(split, 1, 2))
    stacked = np.stack(blocks, axis=1 if conv.order == "block_major" else 2)
    return np.ascontiguousarray(stacked.reshape(conv.filter_shape))


def _take(kernel: Array, block: tuple[Taps, ...], zero: Array | int, groups: int) -> Array:
    """The kernel's taps that one block names, ``zero`` where it names none."""
    present = np.ones((1,) * kernel.ndim, dtype=bool)
    for number, taps in enumerate(block):
        axis = number + 2
        kernel = np.take(kernel, [0 if tap is None else tap for tap in taps], axis=axis)
        shape = [1] * kernel.ndim
        shape[axis] = len(taps)
        present = present & np.array([tap is not None for tap in taps]).reshape(shape)
    if present.all():
        return kernel
    empty = np.asarray(zero)
    if empty.ndim:
        rows = np.repeat(empty.reshape(groups, -1), kernel.shape[0] // groups, axis=0)
        empty = rows.reshape(rows.shape + (1,) * len(block))
    return np.where(present, kernel, empty.astype(kernel.dtype))


def conv_channels(parameter: Array, conv: Conv, axis: int = 0) -> Array:
    """A per-channel parameter of the deconv's output (bias, scale, slope), repeated for ``conv``'s output channels.

    Args:
        parameter: has ``out_channels`` entries along ``axis``.
        conv: the convolution that the parameter is to follow.
        axis: the channel axis of ``parameter``.

    Returns:
        The same with ``total_channels`` entries along ``axis``.
    """
    channels = np.arange(conv.out_channels).reshape(conv.groups, -1)
    repeated = np.stack([channels] * len(conv.blocks), axis=1 if conv.order == "block_major" else 2)
    return np.take(parameter, repeated.reshape(-1), axis=axis)
