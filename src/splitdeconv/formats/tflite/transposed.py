"""The operators that are transposed convolutions, and what each of them says, by one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv.spec import Axis
from splitdeconv.formats.tflite.geometry import MEDIAPIPE, same_axis
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.operands import LeftAlone
from splitdeconv.formats.tflite.schema import ACTIVATIONS, tfl

_SAME, _VALID = 1, 2  # MediaPipe's paddings, which are those of LiteRT's C structures


@dataclass(frozen=True, slots=True)
class Places:
    """Where an operator has its operands: the map, the bias, and its output shape (None where it computes that)."""

    source: int
    bias: int
    sizes: int | None
    axes: int = 2


PLACES: Mapping[str, Places] = {
    "TRANSPOSE_CONV": Places(source=2, bias=3, sizes=0),
    "CONV_3D_TRANSPOSE": Places(source=2, bias=3, sizes=0, axes=3),
    MEDIAPIPE: Places(source=0, bias=2, sizes=None),
}
_KERNEL = 1  # the place of the weights in all of them


@dataclass(frozen=True, slots=True)
class Transposed:
    """One of these operators.

    Attributes:
        source, kernel: tensors that it reads.
        bias, sizes: of its bias and its output shape; None without one.
        strides: of each spatial axis.
        same: whether it is padded by the rule SAME; else VALID.
    """

    source: int
    kernel: int
    bias: int | None
    sizes: int | None
    strides: tuple[int, ...]
    same: bool

    @property
    def is_custom(self) -> bool:
        """Whether TFLite itself has no such operator."""
        return self.sizes is None


def is_deconv(name: str) -> bool:
    """Whether an operator is a transposed convolution, by its name; custom operators choose their own."""
    low = name.lower()
    return ("transpose" in low and "conv" in low) or "deconv" in low


def read_transposed(graph: Graph, operator: int) -> Transposed:
    """What an operator says.

    Raises:
        LeftAlone: it is none of those that are known, or does not say all.
    """
    kind, operands = graph.name(operator), graph.inputs_of(operator)
    places = PLACES.get(kind)
    if places is None:
        known = f"'{MEDIAPIPE}' of MediaPipe is the only one that is known"
        raise LeftAlone(f"custom operator '{kind}': its meaning is not part of the TFLite format ({known})")
    fewest = max(places.source, _KERNEL) + 1
    if len(operands) < fewest or min(operands[:fewest]) < 0 or not graph.outputs_of(operator):
        wanted = "input, weights, bias" if places.sizes is None else "output_shape, weights, input"
        raise LeftAlone(f"{kind} has {len(operands)} inputs, wanted {wanted}")
    bias = operands[places.bias] if len(operands) > places.bias and operands[places.bias] >= 0 else None
    sizes = None if places.sizes is None else operands[places.sizes]
    strides, same = _mediapipe_options(graph, operator) if kind == MEDIAPIPE else _options(graph, operator)
    if min(strides) < 1:
        raise LeftAlone(f"stride is {min(strides)}, wanted at least 1")
    return Transposed(operands[places.source], operands[_KERNEL], bias, sizes, strides, same)


def _options(graph: Graph, operator: int) -> tuple[tuple[int, ...], bool]:
    """Strides, and whether the padding is SAME."""
    kind, options = graph.name(operator), graph.operators[operator].builtinOptions
    wanted = tfl.Conv3DOptionsT if kind == "CONV_3D_TRANSPOSE" else tfl.TransposeConvOptionsT
    if not isinstance(options, wanted):
        raise LeftAlone(f"{kind} without its options, wanted strides and padding")
    if options.fusedActivationFunction not in ACTIVATIONS:
        raise LeftAlone(f"fused activation {options.fusedActivationFunction} is none that CONV_2D has")
    if kind != "CONV_3D_TRANSPOSE":
        return (options.strideH, options.strideW), options.padding == tfl.Padding.SAME
    dilations = options.dilationDFactor, options.dilationHFactor, options.dilationWFactor
    if set(dilations) != {1}:
        raise LeftAlone(f"dilation is {'×'.join(map(str, dilations))}, which runtimes do not agree on")
    return (options.strideD, options.strideH, options.strideW), options.padding == tfl.Padding.SAME


def _mediapipe_options(graph: Graph, operator: int) -> tuple[tuple[int, ...], bool]:
    """The same of three little-endian int32: padding, stride_width, stride_height."""
    stored = graph.operators[operator].customOptions
    if stored is None or len(stored) != 12:
        raise LeftAlone(f"{MEDIAPIPE} has {0 if stored is None else len(stored)} bytes of options, wanted 12")
    padding, stride_width, stride_height = (int(each) for each in np.frombuffer(bytes(stored), "<i4"))
    if padding not in (_SAME, _VALID):
        raise LeftAlone(f"{MEDIAPIPE} has padding {padding}, wanted {_SAME} (SAME) or {_VALID} (VALID)")
    return (stride_height, stride_width), padding == _SAME


def axis_of(in_size: int, out_size: int, kernel: int, stride: int, same: bool) -> Axis:
    """One axis of a builtin operator.

    Raises:
        LeftAlone: its sizes do not belong together.
    """
    forward = -(-out_size // stride) if same else (out_size - kernel + stride) // stride
    if forward != in_size:
        raise LeftAlone(f"its output size {out_size} does not belong to input size {in_size}, which LiteRT refuses")
    try:
        return same_axis(in_size, out_size, kernel, stride, same)
    except ValueError as error:
        raise LeftAlone(str(error)) from None


def mediapipe_axis(in_size: int, kernel: int, stride: int, same: bool) -> Axis:
    """One axis of MediaPipe's operator, whose pads depend on the input size.

    Source: ``Prepare`` and ``Eval`` in MediaPipe's ``util/tflite/operations/transpose_conv_bias.cc``.
    """
    pads = max(0, kernel - (in_size - 1) % stride - 1) if same else 0
    return Axis(kernel, stride, 1, pads // 2, pads - pads // 2, 0, in_size)
