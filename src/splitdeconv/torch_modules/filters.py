"""From a deconv's parameter to the filters of a program's convolutions, by differentiable indexing and sums.

The same mapping as :func:`splitdeconv.deconv.weights.conv_filter`, in PyTorch. Of a transposed convolution every value
is moved and none computed, so gradients flow to the parameter unchanged and the values stay equal to the last bit. Of a
convolution behind an upsampling taps are summed, in float64 and rounded once. Integer (quantised) tensors pass through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.phases import Tap
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import original_taps
from splitdeconv.torch_modules.axes import to_nchw

Split = Callable[[Tensor], Tensor]


def filter_split(conv: Conv, kernel: tuple[int, ...]) -> Split:
    """How the filter of ``conv`` is taken from a deconv's parameter.

    Args:
        conv: which taps go where; its layout decides the filter's memory format (NHWC: channels last).
        kernel: size of the parameter on each spatial axis.

    Returns:
        A function of the parameter, IOHW of the deconv's ``weights_shape``, that returns OIHW
        ``(total_channels, in_channels // groups, *conv.kernel)``. It can be differentiated twice.
    """
    taps_in_all = math.prod(kernel)
    index = [_places(taps, kernel) for block in conv.blocks for taps in product(*block)]
    # Taps are cut apart and joined rather than gathered by an index tensor: no constant in exported graphs, no copy to
    # a GPU, and the gradient is a join again.
    places = math.prod(conv.kernel)
    shape = (taps_in_all, conv.groups, conv.out_channels // conv.groups, conv.in_channels // conv.groups)
    taken_shape = (len(conv.blocks), places, *shape[1:])
    # axes of `taken`: block, place, group, output, input
    outputs = (2, 0, 3) if conv.order == "block_major" else (2, 3, 0)

    def split(parameter: Tensor) -> Tensor:
        rows = parameter[-conv.in_channels :] if conv.beside else parameter[: conv.in_channels]
        grouped = rows.reshape(conv.groups, shape[3], shape[2], taps_in_all)
        taken = _taken(grouped.permute(3, 0, 2, 1).reshape(shape), index).reshape(taken_shape)
        if conv.layout == "NCHW":
            return taken.permute(*outputs, 4, 1).reshape(conv.filter_shape)
        last = (conv.total_channels, *conv.kernel, shape[3])
        return to_nchw(taken.permute(*outputs, 1, 4).reshape(last))

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


def composite_split(deconv: Deconv) -> Split:
    """How the kernel of the transposed convolution that ``deconv`` is comes from the parameter.

    Returns:
        A function of the parameter, IOHW of ``deconv.weights_shape``, that returns IOHW of ``deconv.kernel_shape``.
    """
    kernel = deconv.weights_shape[2:]
    rows = [original_taps(deconv, number, tuple(range(axis.kernel))) for number, axis in enumerate(deconv.axes)]
    index = [_places(taps, kernel) for taps in product(*rows)]

    def split(parameter: Tensor) -> Tensor:
        taken = _taken(parameter[: deconv.in_channels].flatten(2).permute(2, 0, 1), index)
        return taken.permute(1, 2, 0).reshape(deconv.kernel_shape)

    return split


def _taken(parameter: Tensor, index: Sequence[tuple[int, ...]]) -> Tensor:
    """The taps that ``index`` names, sums where it names several; they are on the first axis, before and after."""
    summed = any(len(places) > 1 for places in index)
    exact = torch.float64 if summed and parameter.device.type != "mps" else parameter.dtype  # MPS has no float64
    taps = parameter.to(exact).split(1)
    known: dict[tuple[int, ...], Tensor] = {}
    for places in index:
        if places not in known:
            first, *others = [taps[place] for place in places] or [torch.zeros_like(taps[0])]
            known[places] = sum(others, start=first)
    return torch.cat([known[places] for places in index]).to(parameter.dtype)


def _places(taps: Sequence[Tap], kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of the taps of the flattened kernel, row-major, that make one tap; none where one axis has none."""
    flat = [0]
    for tap, size in zip(taps, kernel, strict=True):
        one = () if tap is None else tap if isinstance(tap, range) else (tap,)
        flat = [place * size + each for place in flat for each in one]
    return tuple(flat)
