"""From a deconv's parameter to the filters of a program's convolutions, by differentiable indexing and sums.

The operations of :mod:`splitdeconv.deconv.filters` in PyTorch. Of a transposed convolution every value is moved and
none computed, so gradients flow to the parameter unchanged and the values stay equal to the last bit. Of a convolution
behind an upsampling taps are summed, in float64 and rounded once. Integer (quantised) tensors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from splitdeconv.deconv.filters import composite_steps, filter_steps
from splitdeconv.deconv.ops import Conv, Op
from splitdeconv.deconv.spec import Deconv
from splitdeconv.torch_modules.axes import to_nchw
from splitdeconv.torch_modules.operators import APPLY

Split = Callable[[Tensor], Tensor]


def filter_split(conv: Conv, weights_shape: Sequence[int]) -> Split:
    """How the filter of ``conv`` is taken from a deconv's parameter.

    Args:
        conv: which taps go where; its layout decides the filter's memory format (NHWC: channels last).
        weights_shape: of the parameter.

    Returns:
        A function of the parameter, IOHW, that returns OIHW ``(total_channels, in_channels // groups, *conv.kernel)``.
        It can be differentiated twice.
    """
    split = _moved(filter_steps(conv, weights_shape, conv.layout))
    return split if conv.layout == "NCHW" else lambda parameter: to_nchw(split(parameter))


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


def composite_split(deconv: Deconv, weights_shape: Sequence[int]) -> Split:
    """How the kernel of the transposed convolution that ``deconv`` is comes from the parameter.

    Returns:
        A function of the parameter, IOHW of ``deconv.weights_shape``, that returns IOHW of ``deconv.kernel_shape``.
    """
    return _moved(composite_steps(deconv, weights_shape))


def _moved(steps: Sequence[Op]) -> Split:
    """The operations one after the other."""
    operations = [APPLY[type(op)](op, 0) for op in steps]

    def split(parameter: Tensor) -> Tensor:
        for operation in operations:
            parameter = operation([parameter], ())
        return parameter

    return split
