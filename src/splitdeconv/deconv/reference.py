"""The definition of a deconv in NumPy, and an interpreter of programs: the oracle of all tests and proofs.

Both compute in the type that they are given; callers pass float64 or integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from splitdeconv.deconv.interpolating import interpolate
from splitdeconv.deconv.movement import at, from_channels_first, move, to_channels_first
from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Concat,
    Conv,
    Difference,
    Interpolate,
    Layout,
    NativeDeconv,
    Op,
    Spread,
    channel_axis,
    spatial_axes,
)
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.requantised import real_filter
from splitdeconv.deconv.spec import Deconv, WrittenOut
from splitdeconv.deconv.structure import axis_matrix, vectors_of
from splitdeconv.deconv.weights import Array, Quantisation, Weights, conv_channels, conv_filter, deconv_kernel
from splitdeconv.deconv.written import around_of, beside_pads


def definition(x: Array, weights: Weights, spec: Deconv, *beside: Array) -> Array:
    """What the model computes: a deconv, or a convolution of a stretched map.

    The latter knows nothing of the deconv that it is equal to: it repeats pixels, puts zeros between them, or blends
    them, and convolves the result with the model's own weights.

    Args:
        x: ``(N, in_channels, *in_sizes)``; its sizes need not be those of ``spec``.
        weights: kernel IOHW of ``spec.weights_shape``, and bias.
        spec: the geometry.
        beside: the map beside the stretched one, ``(N, C, *sizes)``, if there is one.

    Returns:
        ``(N, out_channels, *out_sizes)``, of the type that ``x`` and the kernel promote to.
    """
    if spec.written_out is None:
        return deconv(x, weights, spec)
    stretched, kernel, around = _stretch(x, spec.strides, spec.written_out), weights.kernel, around_of(spec)
    first = spec.written_out.before
    read = np.concatenate(
        [*(each[:, :first] for each in beside), _resized(stretched, around), *(each[:, first:] for each in beside)],
        axis=1,
    )
    filters = np.swapaxes(kernel.reshape(spec.groups, -1, *kernel.shape[1:]), 1, 2)
    y = _correlate(_resized(read, beside_pads(spec)), filters, spec.written_out.dilations)
    return y if weights.bias is None else y + _per_channel(weights.bias, y.ndim, "NCHW")


def convolution(
    x: Array, kernel: Array, pads: Sequence[tuple[int, int]], dilations: Sequence[int], groups: int
) -> Array:
    """An ordinary convolution of stride 1; ``x`` is ``(N, C, *sizes)``, ``kernel`` OIHW."""
    return _correlate(_resized(x, pads), kernel.reshape(groups, -1, *kernel.shape[1:]), dilations)


def _resized(x: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """``(N, C, *sizes)`` with zeros around the spatial axes; cut off where their numbers are negative."""
    padded = np.pad(x, [(0, 0), (0, 0), *((max(0, b), max(0, e)) for b, e in pads)])
    cuts = [slice(max(0, -b), size - max(0, -e)) for (b, e), size in zip(pads, padded.shape[2:], strict=True)]
    return at(padded, cuts)


def _stretch(x: Array, factors: Sequence[int], written: WrittenOut) -> Array:
    """``(N, C, *sizes)`` with every pixel ``factor`` times on each axis, zeros between the pixels, or interpolated."""
    if written.interpolation is not None:
        return interpolate(x, written.interpolation)
    if written.stretch == "repeat":
        for number, factor in enumerate(factors):
            x = np.repeat(x, factor, axis=2 + number)
        return x
    sizes = [(size - 1) * factor + 1 for size, factor in zip(x.shape[2:], factors, strict=True)]
    lattice = np.zeros((*x.shape[:2], *sizes), x.dtype)
    at(lattice, [slice(None, None, factor) for factor in factors])[...] = x
    return lattice


def deconv(x: Array, weights: Weights, spec: Deconv) -> Array:
    """The definition: every input, times every tap, added where it belongs.

    Args:
        x: ``(N, in_channels, *in_sizes)``; its sizes need not be those of ``spec``.
        weights: kernel IOHW and bias.
        spec: strides, dilations, pads, groups.

    Returns:
        ``(N, out_channels, *out_sizes)``, of the type that ``x`` and the kernel promote to.
    """
    sizes = x.shape[2:]
    stretched = [
        (size - 1) * axis.stride + axis.extent + axis.output_pad for size, axis in zip(sizes, spec.axes, strict=True)
    ]
    dtype = np.result_type(x, weights.kernel)
    full = np.zeros((x.shape[0], spec.out_channels, *stretched), dtype)
    grouped = x.reshape(x.shape[0], spec.groups, spec.in_channels // spec.groups, *sizes)
    kernel = weights.kernel.reshape(spec.groups, -1, *weights.kernel.shape[1:])
    for taps in product(*(range(axis.kernel) for axis in spec.axes)):
        term = channel_products(np.swapaxes(at(kernel, taps), 1, 2), grouped)
        places = tuple(
            slice(tap * axis.dilation, tap * axis.dilation + (size - 1) * axis.stride + 1, axis.stride)
            for tap, axis, size in zip(taps, spec.axes, sizes, strict=True)
        )
        at(full, places)[...] += term.reshape(x.shape[0], spec.out_channels, *sizes)
    y = _crop(full, spec)
    return y if weights.bias is None else y + _per_channel(weights.bias, y.ndim, "NCHW")


def quantised_deconv(x: Array, weights: Weights, spec: Deconv) -> Array:
    """The definition on stored integers: an exact sum, one rounding to the output's scale, saturation.

    ``y = saturate(rint(float32(Σ (x − x_zero)·(w − w_zero) + bias)·(x_scale·w_scale/y_scale)) + y_zero)``; ``rint`` is
    to the nearest even, and the scales are multiplied in float32.
    Where each input channel has a weight scale of its own, it is part of the sum, which is then taken in float64.
    Source: ONNX QLinearConv-10 and QuantizeLinear-13; the order of the float32 operations is ONNX Runtime's.

    Args:
        x: stored input, ``(N, in_channels, *in_sizes)``.
        weights: stored kernel IOHW, bias, and ``weights.quant``.
        spec: strides, dilations, pads, groups.

    Returns:
        Stored output, ``(N, out_channels, *out_sizes)``.
    """
    quant = weights.quant
    assert quant is not None, "quantised weights have their scales"
    if quant.is_half:
        return _half_deconv(x, weights, quant, spec)
    rank = weights.kernel.ndim
    shape = weights.kernel.shape
    kernel = weights.kernel.astype(np.float64) - quant.along_kernel(quant.w_zero, shape, spec.groups)
    if quant.by_input:
        kernel = kernel * quant.along_kernel(quant.w_scale, shape, spec.groups)
        bias = None if weights.bias is None else weights.bias.astype(np.float64) / quant.x_scale
        scale = np.asarray(quant.x_scale / quant.y_scale)
    else:
        bias = None if weights.bias is None else quant.bias_in_sums(weights.bias)
        scale = np.reshape(quant.bias_scale(spec.out_channels) / quant.y_scale, (1, -1, *(1,) * (rank - 2)))
    sums = definition(x.astype(np.float64) - quant.x_zero, Weights(kernel, bias), spec)  # whole numbers far below 2⁵³
    rounded = np.rint(sums.astype(np.float32) * scale.astype(np.float32)).astype(np.float64) + quant.y_zero
    limits = np.iinfo(quant.y_type)
    return np.clip(rounded, limits.min, limits.max).astype(quant.y_type)


def _half_deconv(x: Array, weights: Weights, quant: Quantisation, spec: Deconv) -> Array:
    """The definition where scales are float16: that is the type of what DequantizeLinear gives, of the sum, and of its
    quotient by the output's scale, each rounded once. The sum itself is exact.

    Source: ONNX DequantizeLinear-19, QuantizeLinear-23 (its default precision).
    """
    along = quant.along_kernel(quant.w_scale, weights.kernel.shape, spec.groups).astype(np.float64)
    centred = weights.kernel.astype(np.float64) - quant.along_kernel(quant.w_zero, weights.kernel.shape, spec.groups)
    kernel, real = centred * along, (x.astype(np.float64) - quant.x_zero) * np.float64(quant.x_scale)
    kernel, real = (each.astype(np.float16).astype(np.float64) for each in (kernel, real))
    bias = None if weights.bias is None else weights.bias.astype(np.float64)
    with np.errstate(over="ignore"):  # infinity saturates
        sums = definition(real, Weights(kernel, bias), spec).astype(np.float16)
        quotient = (sums / quant.y_scale).astype(np.float64)
    limits = np.iinfo(quant.y_type)
    return np.asarray(np.clip(np.rint(quotient) + quant.y_zero, limits.min, limits.max).astype(quant.y_type))


def channel_products(matrices: Array, maps: Array) -> Array:
    """Each group's matrix on the channels of each pixel.

    Args:
        matrices: ``(groups, out, in)``.
        maps: ``(N, groups, in, *sizes)``.

    Returns:
        ``(N, groups, out, *sizes)``.
    """
    flat = maps.reshape(*maps.shape[:3], math.prod(maps.shape[3:]))
    return np.reshape(np.matmul(matrices, flat), (maps.shape[0], *matrices.shape[:2], *maps.shape[3:]))


def _crop(full: Array, spec: Deconv) -> Array:
    """Cut the pads off; a negative pad adds outputs that no input reaches."""
    pads = [(max(0, -axis.pad_begin), max(0, -axis.pad_end)) for axis in spec.axes]
    padded = np.pad(full, [(0, 0), (0, 0), *pads])
    cuts = tuple(
        slice(max(0, axis.pad_begin), size - max(0, axis.pad_end))
        for axis, size in zip(spec.axes, padded.shape[2:], strict=True)
    )
    return at(padded, cuts)


def run(program: Program, x: Array, weights: Weights, *further: Array) -> Array:
    """Interpret ``program`` on ``x`` (in the program's layout) and on its ``further`` inputs.

    Of quantised weights in real numbers, as the program has them: quantised anew where they are sums.
    """
    assert len(further) == len(program.inputs), "every input has its value"
    values = [x, *further]
    for step in program.steps:
        values.append(_apply(step.op, [values[value] for value in step.inputs], weights))
    return values[-1]


def _apply(op: Op, inputs: list[Array], weights: Weights) -> Array:
    """One operation on arrays."""
    x = inputs[0]
    match op:
        case NativeDeconv(simplified=True):
            simpler = Weights(deconv_kernel(weights.kernel, op.deconv), weights.bias if op.deconv.has_bias else None)
            y = deconv(to_channels_first(x, op.layout), simpler, op.deconv)
            return from_channels_first(y, op.layout)
        case NativeDeconv():
            maps = [to_channels_first(each, op.layout) for each in inputs]
            y = definition(maps[0], weights, op.deconv, *maps[1:])
            return from_channels_first(y, op.layout)
        case Conv():
            y = _conv(to_channels_first(x, op.layout), op, weights)
            return from_channels_first(y, op.layout)
        case Spread():
            return _spread(x, op, weights)
        case Concat():
            joined: Array = np.concatenate(inputs, axis=op.axis)
            return joined
        case Add():
            return x + inputs[1]
        case Difference():
            shape = (*x.shape[: op.axis], 1, *x.shape[op.axis + 1 :])
            edge = np.zeros(shape, x.dtype)
            return np.diff(x, axis=op.axis, prepend=edge, append=edge)
        case AddBias():
            assert weights.bias is not None, "the program adds a bias, the weights have none"
            return x + _per_channel(weights.bias, x.ndim, op.layout)
        case Interpolate():
            return interpolate(x, op.how, spatial_axes(op.layout, x.ndim).start)
    return move(op, x)


def _spread(x: Array, op: Spread, weights: Weights) -> Array:
    """One axis times its banded matrix."""
    vectors = vectors_of(weights.kernel)
    assert vectors is not None, "only separable deconvs have such a step"
    matrix = axis_matrix(vectors[op.number], op.axis.with_in_size(x.shape[op.at]))
    return np.moveaxis(np.tensordot(x, matrix, (op.at, 0)), -1, op.at)


def _conv(x: Array, conv: Conv, weights: Weights) -> Array:
    """A stride-1 convolution, one tap at a time; ``x`` is ``(N, in_channels, *sizes)``."""
    kernel, bias = _filter(conv, weights)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(conv.pad_begin, conv.pad_end, strict=True)])
    y = _correlate(padded, kernel.reshape(conv.groups, -1, *kernel.shape[1:]), conv.dilations)
    if conv.has_bias:
        assert bias is not None, "the program's convolution has a bias, the weights have none"
        y = y + _per_channel(bias, y.ndim, "NCHW")
    return y


def _filter(conv: Conv, weights: Weights) -> tuple[Array, Array | None]:
    """Filter OIHW and bias of a convolution."""
    if weights.quant is not None:
        return real_filter(weights, conv)
    return conv_filter(weights.kernel, conv), None if weights.bias is None else conv_channels(weights.bias, conv)


def _correlate(x: Array, filters: Array, dilations: Sequence[int]) -> Array:
    """A convolution without pads, one tap at a time.

    Args:
        x: ``(N, groups·in, *sizes)``.
        filters: ``(groups, out, in, *kernel)``.
        dilations: of each axis.
    """
    batch, (groups, outs, ins, *kernel) = x.shape[0], filters.shape
    out_sizes = [
        size - (taps - 1) * dilation for size, taps, dilation in zip(x.shape[2:], kernel, dilations, strict=True)
    ]
    grouped = x.reshape(batch, groups, ins, *x.shape[2:])
    y = np.zeros((batch, groups, outs, *out_sizes), np.result_type(x, filters))
    for taps in product(*(range(size) for size in kernel)):
        places = tuple(
            slice(tap * dilation, tap * dilation + size)
            for tap, dilation, size in zip(taps, dilations, out_sizes, strict=True)
        )
        y += channel_products(at(filters, taps), at(grouped, places))
    return np.reshape(y, (batch, groups * outs, *out_sizes))


def _per_channel(parameter: Array, rank: int, layout: Layout) -> Array:
    """Shape a per-channel parameter so that it broadcasts over a map of ``rank`` axes."""
    shape = [1] * rank
    shape[channel_axis(layout, rank)] = -1
    return np.reshape(parameter, shape)
