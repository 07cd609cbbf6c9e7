"""Random deconvs over the whole space: ranks 1 to 3, non-square, uneven, with every odd case drawn often."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
from hypothesis import strategies as st

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights

INTEGERS = 8  # |values| of exact tensors; sums of 10⁵ products stay far below 2²⁴ and are exact in float32


@st.composite
def axes(draw: st.DrawFn, largest: int, negative_pads: bool = True) -> Axis:
    """One axis whose output has at least one pixel."""
    kernel = draw(st.integers(1, largest))
    stride = draw(st.integers(1, 4))
    dilation = draw(st.sampled_from([1, 1, 2, 3]))
    in_size = draw(st.integers(1, 5))
    output_pad = draw(st.integers(0, max(stride, dilation) + 1))
    lowest = -2 if negative_pads else 0
    longest = (in_size - 1) * stride + (kernel - 1) * dilation + 1 + output_pad
    pad_begin = draw(st.integers(lowest, max(lowest, longest - 1)))
    pad_end = draw(st.integers(lowest, max(lowest, longest - 1 - max(pad_begin, 0))))
    return Axis(kernel, stride, dilation, pad_begin, pad_end, output_pad, in_size)


@st.composite
def deconvs(draw: st.DrawFn, negative_pads: bool = True) -> Deconv:
    """A deconv of 1 to 3 axes, with groups, depthwise and bias."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    spatial = tuple(draw(axes({1: 9, 2: 6, 3: 3}[rank], negative_pads)) for _ in range(rank))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    in_channels, out_channels = (groups * draw(st.integers(1, 3)) for _ in range(2))
    return Deconv(spatial, in_channels, out_channels, groups, draw(st.integers(1, 2)), has_bias=draw(st.booleans()))


@st.composite
def separable_deconvs(draw: st.DrawFn, negative_pads: bool = True) -> Deconv:
    """A depthwise deconv whose channels share one filter, a product of vectors."""
    deconv = draw(deconvs(negative_pads))
    channels = draw(st.integers(1, 3))
    return replace(deconv, in_channels=channels, out_channels=channels, groups=channels, separable=True)


def integer_tensors(deconv: Deconv, seed: int, dtype: str = "float64") -> tuple[Array, Weights]:
    """Input (NCHW) and weights of small integers, stored as ``dtype``."""
    rng = np.random.default_rng(seed)

    def integers(*shape: int | None) -> Array:
        return rng.integers(-INTEGERS, INTEGERS + 1, shape).astype(dtype)  # type: ignore[arg-type]

    x = integers(deconv.batch, deconv.in_channels, *deconv.in_sizes)
    bias = integers(deconv.out_channels) if deconv.has_bias else None
    kernel = integers(*deconv.kernel_shape)
    if deconv.separable:
        vectors = [rng.choice([-2, -1, 1, 2], axis.kernel) for axis in deconv.axes]
        kernel = np.broadcast_to(reduce(np.multiply.outer, vectors), deconv.kernel_shape).astype(dtype)
    return x, Weights(kernel, bias)
