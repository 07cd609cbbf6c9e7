"""What convolutions and transposed convolutions do, as their operators state it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from splitdeconv.deconv.spec import Axis
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.schema import tfl
from splitdeconv.formats.written_convs import ConvGeometry

MEDIAPIPE = "Convolution2DTransposeBias"  # a custom operator: TRANSPOSE_CONV with bias, float32 only
# Where the axes of each operator's filter come from, as OIHW; a deconv's as IOHW.
FILTER_AXES: Mapping[str, tuple[int, ...]] = {
    "CONV_2D": (0, 3, 1, 2),
    "CONV_3D": (4, 3, 0, 1, 2),
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),
    "TRANSPOSE_CONV": (3, 0, 1, 2),
    "CONV_3D_TRANSPOSE": (4, 3, 0, 1, 2),
    MEDIAPIPE: (3, 0, 1, 2),
}
_ENDS = ("D", "H", "W")


def same_axis(in_size: int, out_size: int, kernel: int, stride: int, same: bool) -> Axis:
    """One axis of a TRANSPOSE_CONV, padded as its forward convolution over the output would be.

    Source: ``ComputePaddingHeightWidth`` in LiteRT's ``kernels/padding.h``: half of what is missing goes to the begin.

    Raises:
        ValueError: sizes that no deconv has.
    """
    forward = -(-out_size // stride) if same else (out_size - kernel + stride) // stride
    pad_begin = max(0, (forward - 1) * stride + kernel - out_size) // 2
    left = (in_size - 1) * stride + kernel - pad_begin - out_size
    return Axis(kernel, stride, 1, pad_begin, max(0, left), max(0, -left), in_size)


def conv_geometry(graph: Graph, operator: int) -> ConvGeometry | None:
    """What a convolution, or a TRANSPOSE_CONV of stride 1, does; None where its sizes are open or do not fit.

    TensorFlow's SAME leaves the odd pixel to the end.
    """
    name, options = graph.name(operator), graph.operators[operator].builtinOptions
    places = None if name in ("CONV_3D_TRANSPOSE", MEDIAPIPE) else FILTER_AXES.get(name)
    operands = graph.inputs_of(operator)
    if places is None or options is None or len(operands) < 2 or min(operands[:2]) < 0:
        return None
    shape, channels = graph.shape(operands[1]), (graph.shape(operands[0]) or (None,))[-1]
    if len(shape) != len(places) or None in shape or not all(shape):
        return None
    outs, ins, *kernel = (shape[axis] or 0 for axis in places)
    ends = _ENDS[-len(kernel) :]
    strides = tuple(getattr(options, f"stride{end}") for end in ends if hasattr(options, f"stride{end}"))
    if name == "TRANSPOSE_CONV":
        pads = _turned_pads(graph, operator, kernel)
        return None if pads is None else ConvGeometry(tuple(kernel), strides, (1,) * len(kernel), pads, 1, turned=True)
    if not channels or channels % ins:
        return None
    groups = channels if name == "DEPTHWISE_CONV_2D" else channels // ins
    dilations = tuple(getattr(options, f"dilation{end}Factor") for end in ends)
    if outs % groups or min(*strides, *dilations) < 1:
        return None
    reaches = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    same = options.padding == tfl.Padding.SAME
    around = tuple((reach // 2, reach - reach // 2) if same else (0, 0) for reach in reaches)
    return ConvGeometry(tuple(kernel), strides, dilations, around, groups, turned=False)


def _turned_pads(graph: Graph, operator: int, kernel: list[int]) -> tuple[tuple[int, int], ...] | None:
    """Pads of the convolution that a TRANSPOSE_CONV of stride 1 is."""
    options, operands = graph.operators[operator].builtinOptions, graph.inputs_of(operator)
    shapes = [graph.shape(tensor) for tensor in (operands[2], graph.outputs_of(operator)[0])]
    if (options.strideH, options.strideW) != (1, 1) or any(len(shape) != 4 or None in shape[1:3] for shape in shapes):
        return None
    sizes = zip(*(shape[1:3] for shape in shapes), kernel, strict=True)
    axes = [same_axis(i or 1, o or 1, taps, 1, options.padding == tfl.Padding.SAME) for i, o, taps in sizes]
    return tuple((axis.kernel - 1 - axis.pad_begin, axis.kernel - 1 - axis.pad_end + axis.output_pad) for axis in axes)


def as_stored_kernel(name: str, weight: Array) -> Array:
    """A convolution's filter as OIHW, a deconv's as IOHW; other numbers of axes likewise."""
    return np.transpose(weight, FILTER_AXES[name])
