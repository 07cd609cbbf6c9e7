"""Quantised programs as ONNX nodes: QDQ groups or QLinearConv, and 8-bit tensors everywhere between them.

``qdq``: DequantizeLinear, Conv, the epilogue, QuantizeLinear for each convolution; runtimes fuse the group.
``qlinear``: QLinearConv for each convolution. Its activations are uint8 whatever the model's type: int8 ones are moved
by 128 together with their zero-points, which is exact, because int8 × int8 kernels are many times slower on x86.
``qlinear_u8``: the same with the weights moved to uint8 too. x86 processors without VNNI add pairs of uint8 × int8
products in 16 bits, which saturates where weights use their eighth bit; uint8 × uint8 kernels do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from splitdeconv.frontends.onnx.constants import drop_unused
from splitdeconv.frontends.onnx.emit import Source, conv_attributes, write_op, write_stage
from splitdeconv.frontends.onnx.epilogue import Stage
from splitdeconv.frontends.onnx.graph import is_standard
from splitdeconv.frontends.onnx.writer import Writer, take_over
from splitdeconv.ops import Conv, NativeDeconv, Pad, Program
from splitdeconv.weights import Array, Quantisation, conv_channels, conv_filter

_SHIFT = 128  # between an int8 and a uint8 with the same meaning
_CLAMPS = {"Relu": (0.0, None), "Clip": None, "Identity": (None, None)}
_CLIP_OF_8_BIT = 12  # opset
_PAD_OF_8_BIT = 11  # opset
_PER_CHANNEL = 13  # opset of DequantizeLinear with an axis

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Stored:
    """A stored value with its meaning.

    Attributes:
        value: in the graph.
        dtype: its type, a NumPy name.
        scale, zero: of the real numbers.
    """

    value: ir.Value
    dtype: str
    scale: Array
    zero: int


def refuse(
    program: Program, opset: int, quant: Quantisation, bias: Array | None, stages: Sequence[Stage]
) -> str | None:
    """Why the quantised ``program`` cannot be written, or None."""
    if any(isinstance(step.op, Pad) for step in program.steps) and opset < _PAD_OF_8_BIT:
        return f"Pad of opset {opset} takes no quantised values (from {_PAD_OF_8_BIT} on)"
    if not is_qlinear(program):
        return None
    bounds = clamps(stages)
    if isinstance(bounds, str):
        return f"QLinearConv cannot take in {bounds}: only clamps commute with rounding"
    if opset < _CLIP_OF_8_BIT and any(_narrows(each, _unsigned(quant)) for each in bounds):
        return f"Clip of opset {opset} takes no quantised values (from {_CLIP_OF_8_BIT} on)"
    try:
        if bias is not None:
            quant.int32_bias(bias)
    except ValueError as error:
        return str(error)
    return None


def is_qlinear(program: Program) -> bool:
    """Whether the convolutions are written as QLinearConv."""
    return program.quant.startswith("qlinear")


def write_quantised(writer: Writer, program: Program, x: ir.Value, source: Source, stages: Sequence[Stage]) -> Stored:
    """Append the program's nodes, epilogue included; returns the stored output, uint8 in the QLinearConv forms."""
    given = source.quant
    assert given is not None, "a quantised site has its scales"
    quant = _unsigned(given) if is_qlinear(program) else given
    if program.quant == "qlinear_u8":
        source, quant = _unsigned_weights(source, quant)
    first = Stored(x, given.x_type, given.x_scale, given.x_zero)
    values, shapes = [requantise(writer, first, quant.x_type)], program.shapes()
    for step in program.steps:
        inputs = [values[value] for value in step.inputs]
        match step.op:
            case NativeDeconv():
                value = _native(step.op, writer, inputs[0].value, source, quant, stages)
            case Conv() if is_qlinear(program):
                value = _qlinear(step.op, writer, inputs[0].value, source, quant, stages)
            case Conv():
                value = _qdq(step.op, writer, inputs[0].value, source, quant, stages)
            case Pad():
                zero = np.asarray(inputs[0].zero, inputs[0].dtype)
                value = writer.pad(inputs[0].value, step.op.begin, step.op.end, zero)
            case _:
                moved = [each.value for each in inputs]
                value = write_op(step.op, writer, moved, [shapes[each] for each in step.inputs], source)
                values.append(replace(inputs[0], value=value))
                continue
        if isinstance(step.op, Pad):
            values.append(replace(inputs[0], value=value))
        else:
            values.append(Stored(value, quant.y_type, quant.y_scale, quant.y_zero))
    return values[-1]


def requantise(writer: Writer, stored: Stored, dtype: str) -> Stored:
    """The same numbers stored as the other 8-bit type: exact, because scale and distance to the zero-point stay."""
    if stored.dtype == dtype:
        return stored
    zero = stored.zero + (_SHIFT if dtype == "uint8" else -_SHIFT)
    real = _dequantize(writer, stored)
    value = _quantize(writer, real, stored.scale, zero, dtype)
    return Stored(value, dtype, stored.scale, zero)


def hand_over(writer: Writer, stored: Stored, old: ir.Value, dtype: str) -> ir.Value:
    """The output that takes the place of ``old``: a ``dtype`` too, or of the other type where all readers can be told.

    A reader that is a DequantizeLinear gives the same real numbers for the other type with its own zero-point.
    """
    if stored.dtype == dtype:
        take_over(old, stored.value)
        return stored.value
    uses = tuple(old.uses())
    told = all(use.idx == 0 and is_standard(use.node, "DequantizeLinear") for use in uses)
    if old.is_graph_output() or not told or any(use.node.graph is not old.graph for use in uses):
        value = requantise(writer, stored, dtype).value
        take_over(old, value)
        return value
    take_over(old, stored.value)
    stored.value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(stored.dtype)))
    zero = writer.array("zero_point", np.asarray(stored.zero, stored.dtype))
    for node in dict.fromkeys(use.node for use in uses):
        _set_zero_point(node, zero)
    return stored.value


def _set_zero_point(node: ir.Node, zero: ir.Value) -> None:
    """Another zero-point for a DequantizeLinear; the old one goes if nothing else reads it."""
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    old = node.inputs[2]
    node.replace_input_with(2, zero)
    drop_unused(old)


def _unsigned(quant: Quantisation) -> Quantisation:
    """The same quantisation with uint8 activations."""
    if quant.x_type == "int8":
        quant = replace(quant, x_type="uint8", x_zero=quant.x_zero + _SHIFT)
    if quant.y_type == "int8":
        quant = replace(quant, y_type="uint8", y_zero=quant.y_zero + _SHIFT)
    return quant


def _unsigned_weights(source: Source, quant: Quantisation) -> tuple[Source, Quantisation]:
    """The same weights stored as uint8."""
    if source.dtype == ir.DataType.UINT8:
        return source, quant
    read = source.kernel

    def moved() -> Array:
        return (read().astype(np.int16) + _SHIFT).astype(np.uint8)

    unsigned = replace(source, kernel=moved, dtype=ir.DataType.UINT8, key=(*source.key, _SHIFT))
    return unsigned, replace(quant, w_zero=quant.w_zero + np.int32(_SHIFT))


def _dequantize(writer: Writer, stored: Stored) -> ir.Value:
    zero = writer.array("zero_point", np.asarray(stored.zero, stored.dtype))
    return writer.op("DequantizeLinear", [stored.value, writer.array("scale", stored.scale), zero])


def _quantize(writer: Writer, value: ir.Value, scale: Array, zero: int, dtype: str) -> ir.Value:
    return writer.op(
        "QuantizeLinear", [value, writer.array("scale", scale), writer.array("zero_point", np.asarray(zero, dtype))]
    )


def _native(
    op: NativeDeconv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """The original node between its own DequantizeLinear and QuantizeLinear nodes."""
    kernel = writer.lazy("weight", (source.key, "W"), source.kernel, source.dtype, op.deconv.kernel_shape)
    weight = _dequantized_weight(writer, kernel, quant.w_scale, quant.w_zero, source, axis=1)
    inputs = [_dequantize(writer, Stored(x, quant.x_type, quant.x_scale, quant.x_zero)), weight]
    if source.bias is not None:
        inputs.append(_bias(writer, source.bias(), quant.bias_scale(op.deconv.out_channels)))
    value = writer.copy(source.original, inputs)
    return _epilogue_and_quantize(writer, value, op, quant, stages)


def _qdq(
    op: Conv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """DequantizeLinear of input, filter and bias; Conv; the epilogue; QuantizeLinear."""
    scale, zero = (_repeated(each, op, quant) for each in (quant.w_scale, quant.w_zero))
    weight = _dequantized_weight(writer, _filter(op, writer, source, quant), scale, zero, source, axis=0)
    inputs = [_dequantize(writer, Stored(x, quant.x_type, quant.x_scale, quant.x_zero)), weight]
    if source.bias is not None:
        unit = conv_channels(quant.bias_scale(op.out_channels), op)
        inputs.append(_bias(writer, conv_channels(source.bias(), op), unit))
    value = writer.op("Conv", inputs, conv_attributes(op), notes=True)
    return _epilogue_and_quantize(writer, value, op, quant, stages)


def _epilogue_and_quantize(
    writer: Writer, value: ir.Value, op: Conv | NativeDeconv, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    for stage in stages:
        value = write_stage(writer, stage, value, op)
    return _quantize(writer, value, quant.y_scale, quant.y_zero, quant.y_type)


def _dequantized_weight(
    writer: Writer, kernel: ir.Value, scale: Array, zero: Array, source: Source, axis: int
) -> ir.Value:
    """Stored weights behind their DequantizeLinear, per tensor or per channel."""
    stored = zero.astype(source.dtype.numpy())
    parameters = [writer.array("weight_scale", scale), writer.array("weight_zero_point", stored)]
    return writer.op("DequantizeLinear", [kernel, *parameters], {"axis": axis} if scale.ndim else {})


def _bias(writer: Writer, bias: Array, unit: Array) -> ir.Value:
    """A float bias as it is; an int32 one behind its DequantizeLinear."""
    value = writer.array("bias", bias)
    if bias.dtype.kind == "f":
        return value
    zero = np.zeros(unit.shape, np.int32)
    if np.ptp(unit) == 0:
        parameters = [writer.array("bias_scale", unit[0]), writer.array("bias_zero_point", zero[0])]
        return writer.op("DequantizeLinear", [value, *parameters])
    parameters = [writer.array("bias_scale", unit), writer.array("bias_zero_point", zero)]
    return writer.op("DequantizeLinear", [value, *parameters], {"axis": 0})


def _qlinear(
    op: Conv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """QLinearConv, and a Clip where the epilogue's clamps are narrower than its saturation."""
    scale, zero = (_repeated(each, op, quant) for each in (quant.w_scale, quant.w_zero))
    inputs = [
        x,
        writer.array("scale", quant.x_scale),
        writer.array("zero_point", np.asarray(quant.x_zero, quant.x_type)),
        _filter(op, writer, source, quant),
        writer.array("weight_scale", scale),
        writer.array("weight_zero_point", zero.astype(source.dtype.numpy())),
        writer.array("scale", quant.y_scale),
        writer.array("zero_point", np.asarray(quant.y_zero, quant.y_type)),
    ]
    if source.bias is not None:
        inputs.append(writer.array("bias", conv_channels(quant.int32_bias(source.bias()), op)))
    value = writer.op("QLinearConv", inputs, conv_attributes(op), notes=True)
    bounds = clamps(stages)
    assert not isinstance(bounds, str), "refused before"
    for each in bounds:
        if _narrows(each, quant):
            lowest, highest = (np.asarray(bound, quant.y_type) for bound in _stored_bounds(each, quant))
            value = writer.op("Clip", [value, writer.array("min", lowest), writer.array("max", highest)])
    return value


def _filter(op: Conv, writer: Writer, source: Source, quant: Quantisation) -> ir.Value:
    """The stored filter; an empty place holds the weights' zero-point, so that it counts as 0."""

    def kernel() -> Array:
        return conv_filter(source.kernel(), op, quant.per_output(quant.w_zero, op.out_channels))

    return writer.lazy("weight", (source.key, op), kernel, source.dtype, op.filter_shape)


def _repeated(parameter: Array, op: Conv, quant: Quantisation) -> Array:
    """A weight's scale or zero-point in the order of the convolution's channels; one for all stays one."""
    return conv_channels(quant.per_output(parameter, op.out_channels), op) if parameter.ndim else parameter


def clamps(stages: Sequence[Stage]) -> tuple[Bounds, ...] | str:
    """The epilogue as clamps, or the first operator that is none.

    Rounding to the output's scale never reverses an order, so ``Q(clamp(v, a, b)) = clamp(Q(v), Q(a), Q(b))`` exactly.
    """
    found: list[Bounds] = []
    for stage in stages:
        if stage.node.op_type not in _CLAMPS or stage.data_input != 0:
            return str(stage.node.op_type)
        found.append(_CLAMPS[stage.node.op_type] or _clip_bounds(stage))
    return tuple(found)


def _clip_bounds(stage: Stage) -> Bounds:
    """Bounds of a Clip: inputs from opset 11 on, attributes before."""
    bounds: list[float | None] = []
    for number, name in enumerate(("min", "max"), start=1):
        parameter = stage.parameters[number] if len(stage.parameters) > number else None
        attribute: Any = stage.node.attributes.get(name)
        if parameter is not None:
            bounds.append(float(parameter.values.reshape(())))
        else:
            bounds.append(None if attribute is None else float(attribute.as_float()))
    return bounds[0], bounds[1]


def _stored_bounds(bounds: Bounds, quant: Quantisation) -> tuple[int, int]:
    """Bounds as stored values, as QuantizeLinear makes them."""
    limits = np.iinfo(quant.y_type)
    ends = (limits.min, limits.max)
    stored = [
        end if bound is None else int(np.clip(np.rint(np.float32(bound) / quant.y_scale) + quant.y_zero, *ends))
        for bound, end in zip(bounds, ends, strict=True)
    ]
    return stored[0], stored[1]


def _narrows(bounds: Bounds, quant: Quantisation) -> bool:
    """Whether a clamp does more than the output's saturation."""
    limits = np.iinfo(quant.y_type)
    return _stored_bounds(bounds, quant) != (limits.min, limits.max)
