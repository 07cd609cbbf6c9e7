"""What QuantizeLinear and DequantizeLinear say: scales, zero-points and types, and why some cannot be carried over."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.weights import Array, Quantisation
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.graph import Place, integer, is_quantiser

_ACTIVATIONS = ("uint8", "int8", "uint16", "int16")
STORED_AS = {"uint8": "uint8", "int8": "int8", "uint4": "uint8", "int4": "int8", "uint16": "uint16", "int16": "int16"}
INPUT_CHANNELS, OUTPUT_CHANNELS = 0, 1  # axes of a ConvTranspose's weight, (in_channels, out_channels // groups, …)


class UnsupportedError(Exception):
    """A quantisation that cannot be carried over; the message is the reason for skipping the node."""


def quantise_behind(last: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone reads the output of ``last``."""
    uses = tuple(last.outputs[0].uses())
    if len(uses) != 1 or uses[0].idx != 0 or last.outputs[0].is_graph_output():
        return None
    return uses[0].node if is_quantiser(uses[0].node, "QuantizeLinear") else None


def read_values(
    place: Place, from_x: ir.Node, from_weight: ir.Node, output: ir.Node, kernel: Array, out_axis: int
) -> Quantisation:
    """Scales and zero-points of input, weights and output; ``out_axis`` is that of the kernel's output channels.

    Raises:
        UnsupportedError: there are others than those that can be carried over.
    """
    x_scale, x_zero, x_type = per_tensor(from_x, place.opset, "input")
    y_scale, y_zero, y_type = per_tensor(output, place.opset, "output")
    if kernel.dtype.name not in STORED_AS:
        raise UnsupportedError(f"its weights are quantised as {kernel.dtype.name}, wanted {', '.join(STORED_AS)}")
    w_scale, w_zero = parameters(from_weight, place.opset, "weights")
    w_zero = np.zeros(w_scale.shape, np.int32) if w_zero is None else w_zero.astype(np.int32)
    w_axis = OUTPUT_CHANNELS
    if w_scale.size == 1:
        w_scale, w_zero = w_scale.reshape(()), w_zero.reshape(())
    else:
        axis = integer(from_weight, "axis", 1) % kernel.ndim
        if axis > 1 or w_scale.shape != (kernel.shape[axis],):
            raise UnsupportedError(
                f"its weights are quantised along axis {axis} with {list(w_scale.shape)} scales; "
                f"wanted one for each output channel (axis {out_axis}) or input channel ({1 - out_axis})"
            )
        w_axis = OUTPUT_CHANNELS if axis == out_axis else INPUT_CHANNELS
        if w_axis == INPUT_CHANNELS and np.ptp(w_zero):
            raise UnsupportedError("its weights have a zero-point for each input channel, wanted one for all")
    found = Quantisation(x_type, x_scale, x_zero, w_scale, w_zero, y_type, y_scale, y_zero, w_axis)
    if reason := _why_not_half(found, kernel):
        raise UnsupportedError(reason)
    return found


def _why_not_half(values: Quantisation, kernel: Array) -> str | None:
    """Why scales of float16 cannot be carried over, or None."""
    types = {each.dtype.name for each in (values.x_scale, values.w_scale, values.y_scale)}
    if len(types) > 1:
        return f"its scales are {' and '.join(sorted(types))}, wanted one type for all"
    if types == {"float32"}:
        return None
    if values.by_input:
        return "its weights have a scale for each input channel in float16, wanted one for each output channel"
    if any("16" in each for each in (values.x_type, values.y_type, kernel.dtype.name)):
        return "its scales are float16, which does not hold numbers of 16 bits"
    return None


def stored_kernel(found: Array) -> Array:
    """The stored weights; those of 4 bits as 8 bits."""
    return found.astype(STORED_AS[found.dtype.name], copy=False)


def per_tensor(node: ir.Node, opset: int, what: str) -> tuple[Array, int, str]:
    """Scale, zero-point and stored type of an activation; ``what`` it is, for the reason.

    Raises:
        UnsupportedError: there are others than those that can be carried over.
    """
    scale, zero = parameters(node, opset, what)
    if scale.size != 1:
        raise UnsupportedError(f"its {what} has a scale for each channel, wanted one")
    name = _stored_type(node) if zero is None else zero.dtype.name
    if name not in _ACTIVATIONS:
        raise UnsupportedError(f"its {what} is quantised as {name}, wanted {', '.join(_ACTIVATIONS)}")
    return scale.reshape(()), 0 if zero is None else int(zero.reshape(())), name


def _stored_type(node: ir.Node) -> str:
    """The quantised type of a node without a zero-point."""
    if node.op_type == "QuantizeLinear":
        stated = integer(node, "output_dtype", 0)
        return str(ir.DataType(stated).numpy().name) if stated else "uint8"
    source = node.inputs[0]
    producer = None if source is None else source.producer()
    if producer is not None and is_quantiser(producer, "QuantizeLinear"):
        return _stored_type(producer)
    return "an unknown type" if source is None or source.dtype is None else str(source.dtype.numpy().name)


def parameters(node: ir.Node, opset: int, what: str) -> tuple[Array, Array | None]:
    """Scale and zero-point as stored; ``what`` they are of, for the reason.

    Raises:
        UnsupportedError: they are not constant, or others than those that can be carried over.
    """
    scale = constant(node.inputs[1], opset) if len(node.inputs) > 1 else None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant(given, opset)
    if scale is None or (given is not None and zero is None):
        raise UnsupportedError(f"the scale or zero-point of its {what} is computed at run time")
    if scale.dtype not in (np.float32, np.float16):
        raise UnsupportedError(f"the scale of its {what} is {scale.dtype.name}, wanted float32 or float16")
    if integer(node, "block_size", 0):
        raise UnsupportedError(f"a scale for each block of its {what}, wanted one for each channel or tensor")
    return scale, zero
