"""From a deconv's parameter to the filters of a program's convolutions, by differentiable indexing only.

The same mapping as :func:`splitdeconv.deconv.weights.conv_filter`, in PyTorch: every value is moved, none is computed,
so gradients flow to the parameter unchanged and the values stay equal to the last bit. Integer (quantised) tensors pass
through as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import Taps

Split = Callable[[Tensor], Tensor]


def filter_split(conv: Conv, kernel: tuple[int, ...]) -> Split:
    """How the filter of ``conv`` is taken from a deconv's parameter.

    Args:
        conv: which taps go where; its layout decides the filter's memory format (NHWC: channels last).
        kernel: kernel size of the deconv on each spatial axis.

    Returns:
        A function of the parameter, IOHW ``(in_channels, out_channels // groups, *kernel)``, that returns OIHW
        ``(total_channels, in_channels // groups, *conv.kernel)``. It can be differentiated twice.
    """
    empty = math.prod(kernel)
    index = [_place(taps, kernel, empty) for block in conv.blocks for taps in product(*block)]
    padded = empty in index
    # Taps are cut apart and joined rather than gathered by an index tensor: no constant in exported graphs, no copy to
    # a GPU, and the gradient is a join again.
    places = math.prod(conv.kernel)
    shape = (empty, conv.groups, conv.out_channels // conv.groups, conv.in_channels // conv.groups)
    taken_shape = (len(conv.blocks), places, *shape[1:])
    # axes of `taken`: block, place, group, output, input
    outputs = (2, 0, 3) if conv.order == "block_major" else (2, 3, 0)

    def split(parameter: Tensor) -> Tensor:
        grouped = parameter.reshape(conv.groups, shape[3], shape[2], empty)
        taps = grouped.permute(3, 0, 2, 1).reshape(shape).split(1)
        if padded:
            taps = (*taps, torch.zeros_like(taps[0]))
        taken = torch.cat([taps[place] for place in index]).reshape(taken_shape)
        if conv.layout == "NCHW":
            return taken.permute(*outputs, 4, 1).reshape(conv.filter_shape)
        last = (conv.total_channels, *conv.kernel, shape[3])
        return taken.permute(*outputs, 1, 4).reshape(last).movedim(-1, 1)

    return split


def bias_split(conv: Conv) -> Split:
    """How a per-channel parameter (bias, scale) is repeated for the output channels of ``conv``.

    Returns:
        A function of a vector ``(out_channels,)`` that returns ``(total_channels,)``.
    """
    groups, per_group, blocks = conv.groups, conv.out_channels // conv.groups, len(conv.blocks)
    block_major = conv.order == "block_major"

    def split(parameter: Tensor) -> Tensor:
        grouped = parameter.reshape(groups, per_group)
        one = grouped.unsqueeze(1) if block_major else grouped.unsqueeze(2)
        repeated = one.expand(groups, blocks, per_group) if block_major else one.expand(groups, per_group, blocks)
        return repeated.reshape(conv.total_channels)

    return split


def _place(taps: Taps, kernel: tuple[int, ...], empty: int) -> int:
    """Number of a tap in the flattened kernel, row-major; ``empty`` where one axis has no tap."""
    flat = 0
    for tap, size in zip(taps, kernel, strict=True):
        if tap is None:
            return empty
        assert isinstance(tap, int), "no deconv of PyTorch's is written out"
        flat = flat * size + tap
    return flat
