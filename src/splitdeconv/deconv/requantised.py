"""Filters quantised anew: sums of stored weights that do not fit into the weights' type.

A convolution of an upsampled map is split into convolutions whose weights are sums of the model's. Each output channel
of these, one for each phase and channel, gets a scale of its own: the model's where its sums fit, else the smallest
with which they do. So sums that fit are kept as they are, and the others are rounded once, as a quantiser of these
filters would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import INT32, Array, Weights, conv_channels, conv_filter

LARGEST = 127  # magnitude of a stored weight about its zero-point; −128 is left out, as kernels of 8 bits want it


def sums_taps(conv: Conv) -> bool:
    """Whether some weights of ``conv`` are sums of the model's."""
    return any(isinstance(tap, range) for block in conv.blocks for taps in block for tap in taps)


def most_summed(deconv: Deconv) -> int:
    """How many of the model's weights make one of a split form, at most."""
    written = deconv.written_out
    assert written is not None, "only convolutions of stretched maps have sums of weights"
    sizes = zip(deconv.axes, written.kernel, written.dilations, strict=True)
    return math.prod(min(kernel, -(-axis.stride // dilation)) for axis, kernel, dilation in sizes)


@dataclass(frozen=True, slots=True)
class RequantisedFilter:
    """The constants of one convolution.

    Attributes:
        values: stored weights OIHW, of the type of the model's.
        scale, zero: float32 and int32, one for each output channel of the convolution.
        bias: int32 in units of ``x_scale·scale``, or float as the model's; None without one.
    """

    values: Array
    scale: Array
    zero: Array
    bias: Array | None

    def real(self, x_scale: Array) -> tuple[Array, Array | None]:
        """Weights OIHW, and bias, in real numbers, float64."""
        rest = (-1, *(1,) * (self.values.ndim - 1))
        scale = self.scale.astype(np.float64)
        weights = (self.values.astype(np.float64) - self.zero.reshape(rest)) * scale.reshape(rest)
        if self.bias is None:
            return weights, None
        unit = scale * np.float64(x_scale) if self.bias.dtype.kind == "i" else 1.0
        return weights, self.bias.astype(np.float64) * unit


def requantised_filter(weights: Weights, conv: Conv) -> RequantisedFilter:
    """The filter of ``conv``, quantised anew where its sums do not fit, and its bias in the units that this makes."""
    quant = weights.quant
    assert quant is not None, "float weights are not quantised anew"
    shape, kind = weights.kernel.shape, weights.kernel.dtype
    sums = conv_filter(weights.kernel.astype(np.int64) - quant.along_kernel(quant.w_zero, shape, conv.groups), conv)
    own = conv_channels(quant.per_output(quant.w_scale, conv.out_channels), conv).astype(np.float64)
    largest = np.abs(sums).max(axis=tuple(range(1, sums.ndim)), initial=0)
    scale = (own * np.maximum(1.0, largest / LARGEST)).astype(np.float32)
    zero = 128 if kind == np.uint8 else 0
    ratio = (own / np.where(scale > 0, scale, 1)).reshape((-1, *(1,) * (sums.ndim - 1)))
    values = (np.clip(np.rint(sums * ratio), -LARGEST, LARGEST) + zero).astype(kind)
    bias = None if weights.bias is None or not conv.has_bias else conv_channels(weights.bias, conv)
    if bias is not None and bias.dtype.kind == "i":
        bias = np.clip(np.rint(bias * ratio.reshape(-1)), INT32.min, INT32.max).astype(bias.dtype)
    return RequantisedFilter(values, scale, np.full(scale.shape, zero, np.int32), bias)


def real_filter(weights: Weights, conv: Conv) -> tuple[Array, Array | None]:
    """Filter OIHW and bias of ``conv`` in real numbers, float64, as a program of a quantised site has them."""
    quant = weights.quant
    assert quant is not None, "float weights are real already"
    if sums_taps(conv):
        return requantised_filter(weights, conv).real(quant.x_scale)
    real = weights.as_real(conv.groups)
    return conv_filter(real.kernel, conv), None if real.bias is None else conv_channels(real.bias, conv)
