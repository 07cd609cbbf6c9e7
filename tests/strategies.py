"""Random deconvs over the whole space: ranks 1 to 3, non-square, uneven, with every odd case drawn often."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from splitdeconv.deconv.spec import Axis, Deconv, WrittenOut
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.deconv.written import beside_shape, goes_before, has_holes, stretched_axis

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


@st.composite
def written_out_deconvs(draw: st.DrawFn) -> Deconv:
    """A convolution of a stretched map: 1 to 3 axes, unequal factors, dilation, groups, uneven and negative pads."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    stretch = draw(st.sampled_from(["repeat", "repeat", "zeros"]))
    kernel, dilations, axes, around = [], [], [], []
    for _ in range(rank):
        factor = draw(st.integers(1, {1: 5, 2: 4, 3: 2}[rank]))
        kernel.append(draw(st.integers(1, {1: 7, 2: 5, 3: 3}[rank])))
        dilations.append(draw(st.sampled_from([1, 1, 1, factor, 2, 3, 2 * factor])))
        size = draw(st.integers(1, 5))
        reach = (kernel[-1] - 1) * dilations[-1]
        length = size * factor if stretch == "repeat" else (size - 1) * factor + 1
        begin = draw(st.integers(-2, reach + 2))
        lowest = reach + 1 - length - begin
        end = draw(st.integers(max(-2, lowest), max(-2, lowest) + reach + 3))
        around.append((draw(st.integers(-1 if begin < 0 else 0, 2)), draw(st.integers(-1 if end < 0 else 0, 2))))
        axes.append(stretched_axis(stretch, factor, kernel[-1], dilations[-1], (begin, end), size))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    total, outs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    beside = draw(st.integers(0, total - 1))
    before = draw(st.integers(0, beside)) if groups > 1 else 0  # without groups its own rows are first
    ins, pads = total - beside, tuple(around) if beside else ()
    written = WrittenOut(stretch, tuple(kernel), tuple(dilations), beside, pads, before)
    found = Deconv(
        tuple(axes), ins, outs, groups, draw(st.integers(1, 2)), has_bias=draw(st.booleans()), written_out=written
    )
    assume(max(found.strides) > 1 and (goes_before(found) or not has_holes(found)))
    assume(not beside or all(beside_shape(found, "NCHW")))
    return found


def integer_tensors(deconv: Deconv, seed: int, dtype: str = "float64") -> tuple[Array, Weights]:
    """Input (NCHW) and weights of small integers, stored as ``dtype``."""
    rng = np.random.default_rng(seed)

    def integers(*shape: int | None) -> Array:
        return rng.integers(-INTEGERS, INTEGERS + 1, shape).astype(dtype)  # type: ignore[arg-type]

    x = integers(deconv.batch, deconv.in_channels, *deconv.in_sizes)
    bias = integers(deconv.out_channels) if deconv.has_bias else None
    kernel = integers(*deconv.weights_shape)
    if deconv.separable:
        vectors = [rng.choice([-2, -1, 1, 2], axis.kernel) for axis in deconv.axes]
        kernel = np.broadcast_to(reduce(np.multiply.outer, vectors), deconv.kernel_shape).astype(dtype)
    return x, Weights(kernel, bias)


def beside_tensors(deconv: Deconv, seed: int) -> list[Array]:
    """The map beside a stretched one (NCHW), of small integers; nothing where there is none."""
    if deconv.written_out is None or not deconv.written_out.beside:
        return []
    shape = [size or 1 for size in beside_shape(deconv, "NCHW")]
    return [np.random.default_rng(seed + 1).integers(-INTEGERS, INTEGERS + 1, shape).astype("float64")]
