"""Quantised programs as ONNX nodes: QDQ groups or QLinearConv, and 8-bit tensors everywhere between them.

``qdq``: DequantizeLinear, Conv, the epilogue, QuantizeLinear for each convolution; runtimes fuse the group.
``qlinear``: QLinearConv for each convolution. Its activations are uint8 whatever the model's type: int8 ones are moved
by 128 together with their zero-points, which is exact, because int8 × int8 kernels are many times slower on x86.
``qlinear_u8``: the same with the weights moved to uint8 too. x86 processors without VNNI add pairs of uint8 × int8
products in 16 bits, which saturates where weights use their eighth bit; uint8 × uint8 kernels do not.
``qdq_u8``: ``qdq`` with int8 activations moved to uint8, as runtimes that fuse the group want them.
``float``: a float convolution of the centred numbers, its weights stored as they are; 8-bit numbers behind it. Runtimes
fold the weights once, where those of a DequantizeLinear are made real numbers again in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Conv, DepthToSpace, NativeDeconv, Pad
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.requantised import requantised_filter, sums_taps
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.structure import dense_of
from splitdeconv.deconv.weights import Array, Quantisation, Weights, conv_channels, conv_filter, deconv_kernel
from splitdeconv.deconv.written import is_requantised
from splitdeconv.formats.onnx.emit import Source, conv_attributes, crop_output, deconv_node, write_op, write_stage
from splitdeconv.formats.onnx.epilogue import Stage
from splitdeconv.formats.onnx.integer_filter import StoredKernel, write_filter
from splitdeconv.formats.onnx.quantised_clamps import clamps, narrows, stored_bounds
from splitdeconv.formats.onnx.quantised_values import (
    SHIFT,
    Stored,
    dequantize,
    quantiser_domain,
    quantize,
    requantise,
)
from splitdeconv.formats.onnx.writer import Writer
from splitdeconv.lowerings.native import as_written

_CLIP_OF_8_BIT = 12  # opset
_PAD_OF_8_BIT = 11  # opset
_SCALES_BY_CHANNEL = 13  # opset of a DequantizeLinear with them


def refuse(
    program: Program, opset: int, quant: Quantisation, bias: Array | None, stages: Sequence[Stage]
) -> str | None:
    """Why the quantised ``program`` cannot be written, or None."""
    if any(isinstance(step.op, Pad) for step in program.steps) and opset < _PAD_OF_8_BIT:
        return f"Pad of opset {opset} takes no quantised values (from {_PAD_OF_8_BIT} on)"
    if "16" in quant.y_type and any(isinstance(step.op, DepthToSpace) for step in program.steps):
        return "runtimes have no DepthToSpace of 16-bit numbers"
    first = program.steps[0].op
    if isinstance(first, NativeDeconv) and first.simplified and _has_scales_of_all_groups(first.deconv, quant):
        return "a ConvTranspose of groups has no weight scale for each of their output channels"
    if is_requantised(program.deconv) and (reason := _requantised_refusal(program, opset)):
        return reason
    if not is_qlinear(program):
        return None
    bounds = clamps(stages)
    if isinstance(bounds, str):
        return f"QLinearConv cannot take in {bounds}: only clamps commute with rounding"
    if opset < _CLIP_OF_8_BIT and any(narrows(each, _unsigned(quant)) for each in bounds):
        return f"Clip of opset {opset} takes no quantised values (from {_CLIP_OF_8_BIT} on)"
    try:
        if bias is not None:
            quant.int32_bias(bias)
    except ValueError as error:
        return str(error)
    return None


def _requantised_refusal(program: Program, opset: int) -> str | None:
    """Why a form cannot hold filters that are quantised anew, or None."""
    if isinstance(program.steps[0].op, NativeDeconv):
        return "a ConvTranspose has no weight scale for each phase" if program.steps[0].op.simplified else None
    if program.quant == "float":
        return "float convolutions keep the stored weights, whose sums do not fit into their type"
    if not is_qlinear(program) and opset < _SCALES_BY_CHANNEL:
        return f"DequantizeLinear of opset {opset} has no scale for each channel (from {_SCALES_BY_CHANNEL} on)"
    return None


def _has_scales_of_all_groups(deconv: Deconv, quant: Quantisation) -> bool:
    per_group = deconv.out_channels // deconv.groups
    return deconv.groups > 1 and per_group > 1 and quant.w_scale.size > per_group


def is_qlinear(program: Program) -> bool:
    """Whether the convolutions are written as QLinearConv."""
    return program.quant.startswith("qlinear")


def forms(quant: Quantisation, weight: str) -> tuple[str, ...]:
    """The forms of a convolution, the usual ones first; what is uint8 already need not be moved.

    Integer kernels have 8 bits and no scales for input channels: everything else is computed in float, as it was. They
    round once, where float16 rounds the real numbers and the sum before: with scales of that type the operators stay.
    """
    if quant.is_half:
        return ("qdq",)
    if quant.by_input or any("16" in each for each in (quant.x_type, quant.y_type, weight)):
        return ("float",)
    moved = ("qlinear_u8",) if weight == "int8" else ()
    shifted = ("qdq_u8",) if "int8" in (quant.x_type, quant.y_type) else ()
    return ("qdq", "qlinear", *moved, *shifted, "float")


def write_quantised(writer: Writer, program: Program, x: ir.Value, source: Source, stages: Sequence[Stage]) -> Stored:
    """Append the program's nodes, epilogue included; returns the stored output, uint8 in the forms that move it."""
    given = source.quant
    assert given is not None, "a quantised site has its scales"
    quant = _unsigned(given) if is_qlinear(program) or program.quant == "qdq_u8" else given
    if program.quant == "qlinear_u8":
        source, quant = _unsigned_weights(source, quant)
    assert not program.inputs, "only programs of one input are written here"
    first = Stored(x, given.x_type, given.x_scale, given.x_zero)
    values, shapes = [requantise(writer, first, quant.x_type)], program.shapes()
    centred: dict[int, ir.Value] = {}  # of each map that float convolutions read
    for step in program.steps:
        inputs = [values[value] for value in step.inputs]
        match step.op:
            case NativeDeconv():
                value = _native(step.op, writer, inputs[0].value, source, quant, stages)
            case Conv() if is_qlinear(program):
                value = _qlinear(step.op, writer, inputs[0].value, source, quant, stages)
            case Conv() if program.quant == "float":
                number = step.inputs[0]
                if number not in centred:
                    centred[number] = _centred(writer, inputs[0].value, inputs[0].zero)
                value = _float(step.op, writer, centred[number], source, quant, stages)
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


def _unsigned(quant: Quantisation) -> Quantisation:
    """The same quantisation with uint8 activations."""
    if quant.x_type == "int8":
        quant = replace(quant, x_type="uint8", x_zero=quant.x_zero + SHIFT)
    if quant.y_type == "int8":
        quant = replace(quant, y_type="uint8", y_zero=quant.y_zero + SHIFT)
    return quant


def _unsigned_weights(source: Source, quant: Quantisation) -> tuple[Source, Quantisation]:
    """The same weights stored as uint8."""
    if source.dtype == ir.DataType.UINT8:
        return source, quant
    read = source.kernel

    def moved() -> Array:
        return (read().astype(np.int16) + SHIFT).astype(np.uint8)

    unsigned = replace(source, kernel=moved, dtype=ir.DataType.UINT8, key=(*source.key, SHIFT))
    return unsigned, replace(quant, w_zero=quant.w_zero + np.int32(SHIFT))


def _native(
    op: NativeDeconv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """The original node between its own DequantizeLinear and QuantizeLinear nodes, and the crop; or a simpler node."""
    if op.deconv.written_out is not None and not op.simplified:
        plain = replace(as_written(op.deconv, "NCHW"), quant="qdq")
        return write_quantised(writer, plain, x, source, stages).value
    read, shape = (lambda: deconv_kernel(source.kernel(), op.deconv)), op.deconv.kernel_shape
    axis, w_scale, w_zero = quant.w_axis, quant.w_scale, quant.w_zero
    if op.deconv.diagonal and not op.simplified:
        zero = quant.per_output(quant.w_zero, shape[0]).reshape(1, -1, *(1,) * len(shape[2:]))
        read, shape = lambda: dense_of(source.kernel(), zero), (shape[0], shape[0], *shape[2:])
    elif not quant.by_input and w_scale.size > shape[1]:  # of groups with one input channel each
        axis, w_scale, w_zero = 0, w_scale[:: shape[1]], w_zero[:: shape[1]]
    kernel = writer.lazy("weight", (source.key, "W", op.simplified), read, source.dtype, shape)
    inputs = [
        dequantize(writer, Stored(x, quant.x_type, quant.x_scale, quant.x_zero)),
        _dequantized_weight(writer, kernel, w_scale, w_zero, source, axis),
    ]
    if source.bias is not None:
        inputs.append(_bias(writer, source.bias(), quant.bias_scale(op.deconv.out_channels)))
    if op.simplified:
        return _epilogue_and_quantize(writer, deconv_node(writer, op.deconv, inputs), op, quant, stages)
    stored = _epilogue_and_quantize(writer, writer.copy(source.original, inputs), op, quant, stages)
    return crop_output(writer, op.deconv, stored)


def _qdq(
    op: Conv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """DequantizeLinear of input, filter and bias; Conv; the epilogue; QuantizeLinear."""
    constants = _constants(op, writer, source, quant)
    weight = _dequantized_weight(writer, constants.kernel, constants.scale, constants.zero, source, axis=0)
    inputs = [dequantize(writer, Stored(x, quant.x_type, quant.x_scale, quant.x_zero)), weight]
    if constants.bias is not None:
        inputs.append(_bias(writer, constants.bias, constants.bias_unit(quant)))
    value = writer.op("Conv", inputs, conv_attributes(op), notes=True)
    return _epilogue_and_quantize(writer, value, op, quant, stages)


def _centred(writer: Writer, value: ir.Value, zero: int) -> ir.Value:
    """The stored numbers' distances to their zero-point, in float32.

    No DequantizeLinear, because ONNX Runtime would give each of its readers a copy, and quantise float weights anew.
    """
    real = writer.op("Cast", [value], {"to": ir.DataType.FLOAT.value})
    return writer.op("Sub", [real, writer.array("zero_point", np.asarray(zero, np.float32))]) if zero else real


def _float(
    op: Conv, writer: Writer, x: ir.Value, source: Source, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    """Conv of centred numbers with weights in units of the output's real numbers; the epilogue; QuantizeLinear."""
    unit = np.asarray(quant.x_scale * quant.w_scale, np.float32)
    stored = StoredKernel(source.kernel, source.dtype, unit, quant.w_zero, quant.w_axis)
    inputs = [x, write_filter(writer, op, stored, source.key)]
    if source.bias is not None:
        bias = source.bias()
        if bias.dtype.kind != "f":
            bias = (bias.astype(np.float32) * quant.bias_scale(op.out_channels)).astype(np.float32)
        inputs.append(writer.array("bias", conv_channels(bias, op)))
    value = writer.op("Conv", inputs, conv_attributes(op), notes=True)
    return _epilogue_and_quantize(writer, value, op, quant, stages)


def _epilogue_and_quantize(
    writer: Writer, value: ir.Value, op: Conv | NativeDeconv, quant: Quantisation, stages: Sequence[Stage]
) -> ir.Value:
    for stage in stages:
        value = write_stage(writer, stage, value, op)
    return quantize(writer, value, quant.y_scale, quant.y_zero, quant.y_type)


def _dequantized_weight(
    writer: Writer, kernel: ir.Value, scale: Array, zero: Array, source: Source, axis: int
) -> ir.Value:
    """Stored weights behind their DequantizeLinear, per tensor or per channel."""
    stored = zero.astype(source.dtype.numpy())
    parameters = [writer.array("weight_scale", scale), writer.array("weight_zero_point", stored)]
    domain = quantiser_domain(writer, stored.dtype.name)
    return writer.op("DequantizeLinear", [kernel, *parameters], {"axis": axis} if scale.ndim else {}, domain=domain)


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
    constants = _constants(op, writer, source, quant)
    inputs = [
        x,
        writer.array("scale", quant.x_scale),
        writer.array("zero_point", np.asarray(quant.x_zero, quant.x_type)),
        constants.kernel,
        writer.array("weight_scale", constants.scale),
        writer.array("weight_zero_point", constants.zero.astype(source.dtype.numpy())),
        writer.array("scale", quant.y_scale),
        writer.array("zero_point", np.asarray(quant.y_zero, quant.y_type)),
    ]
    if constants.bias is not None:
        own = replace(quant, w_scale=constants.scale)
        inputs.append(writer.array("bias", own.int32_bias(constants.bias)))
    value = writer.op("QLinearConv", inputs, conv_attributes(op), notes=True)
    bounds = clamps(stages)
    assert not isinstance(bounds, str), "refused before"
    for each in bounds:
        if narrows(each, quant):
            lowest, highest = (np.asarray(bound, quant.y_type) for bound in stored_bounds(each, quant))
            value = writer.op("Clip", [value, writer.array("min", lowest), writer.array("max", highest)])
    return value


@dataclass(frozen=True)
class _Constants:
    """What a convolution reads beside its map.

    Attributes:
        kernel: stored filter.
        scale, zero: of the filter, ``()`` or one for each channel of the convolution.
        bias: of each channel of the convolution, int32 or float; None without one.
    """

    kernel: ir.Value
    scale: Array
    zero: Array
    bias: Array | None

    def bias_unit(self, quant: Quantisation) -> Array:
        """What 1 in an int32 bias stands for, one for each channel."""
        assert self.bias is not None, "asked where there is a bias"
        return replace(quant, w_scale=self.scale).bias_scale(self.bias.size)


def _constants(op: Conv, writer: Writer, source: Source, quant: Quantisation) -> _Constants:
    """The model's own values in the convolution's order; quantised anew where it sums them."""
    bias = None if source.bias is None else source.bias()
    if not sums_taps(op):
        scale, zero = (_repeated(each, op, quant) for each in (quant.w_scale, quant.w_zero))
        return _Constants(
            _filter(op, writer, source, quant), scale, zero, bias if bias is None else conv_channels(bias, op)
        )
    found = requantised_filter(Weights(source.kernel(), bias, quant), op)
    return _Constants(writer.array("weight", found.values), found.scale, found.zero, found.bias)


def _filter(op: Conv, writer: Writer, source: Source, quant: Quantisation) -> ir.Value:
    """The stored filter; an empty place holds the weights' zero-point, so that it counts as 0."""

    def kernel() -> Array:
        return conv_filter(source.kernel(), op, quant.per_output(quant.w_zero, op.out_channels))

    return writer.lazy("weight", (source.key, op), kernel, source.dtype, op.filter_shape)


def _repeated(parameter: Array, op: Conv, quant: Quantisation) -> Array:
    """A weight's scale or zero-point in the order of the convolution's channels; one for all stays one."""
    return conv_channels(quant.per_output(parameter, op.out_channels), op) if parameter.ndim else parameter
