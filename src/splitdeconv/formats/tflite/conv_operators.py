"""Which operators convolutions, transposed convolutions and upsamplings are, and their options."""

from __future__ import annotations

from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Conv, Shape
from splitdeconv.deconv.spec import Axis
from splitdeconv.formats.tflite.geometry import same_axis
from splitdeconv.formats.tflite.moves import nearest
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.types import SiteTypes

# Versions of convolutions that say more than their types do. Source: LiteRT's op_version.cc.
_HYBRID = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6}
_INT32_BIAS = {"CONV_2D": 8, "DEPTHWISE_CONV_2D": 7}
_GROUPED_CONV = 6


def operator_of(conv: Conv) -> str:
    """The TFLite operator that a convolution is."""
    if len(conv.kernel) > 2:
        return "CONV_3D"
    return "DEPTHWISE_CONV_2D" if conv.groups == conv.in_channels > 1 else "CONV_2D"


def conv_operator(op: Conv, types: SiteTypes) -> tuple[int, Any, int]:
    """Operator, options without pads and activation, and version of a convolution: 0 for that of its types."""
    name, options = operator_of(op), _options(op)
    if name == "CONV_2D":
        options.quantizedBiasType = types.bias_type
    return getattr(Builtin, name), options, _version(name, op, types)


def _options(op: Conv) -> Any:
    """Of stride 1."""
    match operator_of(op), op.dilations:
        case "CONV_3D", (depth, rows, columns):
            options = tfl.Conv3DOptionsT(strideD=1, strideH=1, strideW=1)
            options.dilationDFactor, options.dilationHFactor, options.dilationWFactor = depth, rows, columns
            return options
        case "DEPTHWISE_CONV_2D", _:
            options = tfl.DepthwiseConv2DOptionsT(depthMultiplier=op.total_channels // op.in_channels)
        case _:
            options = tfl.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.dilationHFactor, options.dilationWFactor = op.dilations
    return options


def _version(name: str, op: Conv, types: SiteTypes) -> int:
    if types.is_hybrid:
        return _HYBRID.get(name, 0)
    if types.bias_type and types.maps == "int16":
        return _INT32_BIAS.get(name, 0)
    return _GROUPED_CONV if name == "CONV_2D" and op.groups > 1 else 0


def padding_of(op: Conv) -> int | None:
    """SAME or VALID where one of them means the convolution's pads, else None."""
    pads = list(zip(op.pad_begin, op.pad_end, strict=True))
    if not any(map(any, pads)):
        return int(tfl.Padding.VALID)
    totals = [(size - 1) * dilation for size, dilation in zip(op.kernel, op.dilations, strict=True)]
    same = [(total // 2, total - total // 2) for total in totals]
    return int(tfl.Padding.SAME) if pads == same else None


def is_same(axis: Axis) -> bool:
    """Whether TRANSPOSE_CONV's padding SAME means the axis; LiteRT takes it for these sizes only."""
    assert axis.in_size is not None, "sites have known sizes"
    out_size = axis.out_size_of(axis.in_size)
    fits = -(-out_size // axis.stride) == axis.in_size
    return fits and same_axis(axis.in_size, out_size, axis.kernel, axis.stride, same=True) == axis


def resizes(shape: Shape, factors: tuple[int, ...]) -> bool:
    """Whether RESIZE_NEAREST_NEIGHBOR repeats each pixel so: its float32 coordinates are wrong at some factors."""
    if len(shape) != 4 or factors[0] != 1 or factors[3] != 1:
        return False
    return all(
        size is not None and np.array_equal(nearest(size, size * factor), np.arange(size * factor) // factor)
        for size, factor in zip(shape[1:3], factors[1:3], strict=True)
    )
