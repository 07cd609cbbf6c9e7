"""Filters of float convolutions that are stored as the integers they were quantised to.

Written as Cast, Sub and Mul of constants, which runtimes fold once when they load the model. Behind a DequantizeLinear
ONNX Runtime makes them real numbers in every run, and does not bring them into the order that its kernels want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.weights import Array, conv_channels, conv_filter
from splitdeconv.formats.onnx.writer import Writer


@dataclass(frozen=True)
class StoredKernel:
    """A deconv's kernel as integers: ``real = (stored − zero)·scale``.

    Attributes:
        read: the stored kernel, IOHW.
        dtype: its type.
        scale: of the real numbers' type; ``()``, or one for each entry of the kernel's axis ``axis``.
        zero: int32, of the same shape; one number where ``axis`` is 0.
        axis: 1 (output channels of a group) or 0 (input channels).
    """

    read: Callable[[], Array]
    dtype: ir.DataType
    scale: Array
    zero: Array
    axis: int


def write_filter(writer: Writer, op: Conv, stored: StoredKernel, key: object) -> ir.Value:
    """The filter of ``op`` in real numbers.

    Args:
        writer: collects the nodes.
        op: the convolution.
        stored: the deconv's kernel.
        key: identifies it, so that sites with shared weights share their filters.
    """
    by_input = stored.scale.ndim > 0 and stored.axis == 0
    empty = stored.zero.max() if by_input else _per_output(stored.zero, op)

    def make() -> Array:
        return conv_filter(stored.read(), op, empty)

    value = writer.lazy("weight", (key, op, "integers"), make, stored.dtype, op.filter_shape)
    value = writer.op("Cast", [value], {"to": ir.DataType.from_numpy(stored.scale.dtype).value})
    if stored.zero.any():
        zero = _along_filter(stored.zero.astype(stored.scale.dtype), op, by_input)
        value = writer.op("Sub", [value, writer.array("weight_zero_point", zero)])
    return writer.op("Mul", [value, writer.array("weight_scale", _along_filter(stored.scale, op, by_input))])


def _per_output(parameter: Array, op: Conv) -> Array:
    """One value for each output channel of the deconv; groups share theirs."""
    return np.tile(np.atleast_1d(parameter), op.out_channels // max(1, parameter.size))


def _along_filter(parameter: Array, op: Conv, by_input: bool) -> Array:
    """A scale or zero-point of the kernel, to be broadcast against the filter (OIHW)."""
    if not parameter.ndim:
        return parameter
    rest = (1,) * len(op.kernel)
    if not by_input:
        return conv_channels(_per_output(parameter, op), op).reshape((-1, 1, *rest))
    rows = np.repeat(parameter.reshape(op.groups, 1, -1), op.total_channels // op.groups, axis=1)
    return rows.reshape((op.total_channels, -1, *rest))
