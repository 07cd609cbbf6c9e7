"""Programs as ONNX nodes: one function per operation, used for stand-alone models and for splicing alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.filters import composite_steps, filter_steps
from splitdeconv.deconv.movement import keeps_order
from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Concat,
    Conv,
    DepthToSpace,
    Difference,
    Dim,
    Interpolate,
    NativeDeconv,
    Op,
    Pad,
    Repeat,
    Reshape,
    Shape,
    Slice,
    Spread,
    Take,
    Transpose,
)
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.structure import axis_matrix, dense_of, vectors_of
from splitdeconv.deconv.weights import (
    Array,
    Quantisation,
    channel_places,
    conv_channels,
    conv_filter,
    deconv_kernel,
)
from splitdeconv.formats.onnx.epilogue import Parameter, Stage
from splitdeconv.formats.onnx.integer_filter import StoredKernel, write_filter
from splitdeconv.formats.onnx.writer import Writer, run_time_dims
from splitdeconv.lowerings.native import as_written


@dataclass(frozen=True)
class Source:
    """Where a site's trained values come from; they are read only when the model is written.

    Attributes:
        kernel, bias: read the arrays, IOHW and ``(out_channels,)``; bias is None where there is none.
        shape: of the kernel.
        dtype: their type.
        key: identifies the pair, so that sites with shared weights share their filters.
        original: the ConvTranspose node.
        quant: scales and zero-points of a quantised site, or None.
        stored: the integers behind the kernel of a float site, or None.
        run_time: the parameters that the model computes when it runs; they are read instead.
        own: what makes the kernel of the one that the model computes.
    """

    kernel: Callable[[], Array]
    bias: Callable[[], Array] | None
    shape: tuple[int, ...]
    dtype: ir.DataType
    key: tuple[int, ...]
    original: ir.Node
    quant: Quantisation | None = None
    stored: StoredKernel | None = None
    run_time: Mapping[WeightName, ir.Value] = field(default_factory=dict)
    own: tuple[Op, ...] = ()


def refuse(program: Program, opset: int) -> str | None:
    """Why ``program`` cannot be written with the operators of ``opset``, or None."""
    if opset >= 11:
        return None
    shapes = program.shapes()
    for step in program.steps:
        match step.op:
            case DepthToSpace(order="channel_major"):
                return f"DepthToSpace of opset {opset} has no CRD order (from 11 on)"
            case Reshape() if opset < 7 and run_time_dims(step.op.dims, shapes[step.inputs[0]]) > 1:
                return f"opset {opset} cannot compute a shape at run time (from 7 on)"
            case AddBias() | Conv(flat=True, has_bias=True) if opset < 7:
                return f"Add of opset {opset} does not broadcast a bias (from 7 on)"
            case Add() if opset < 7 and shapes[step.inputs[0]] != shapes[step.inputs[1]]:
                return f"Add of opset {opset} does not broadcast (from 7 on)"
            case Repeat() if opset < 7:
                return f"opset {opset} has no upsampling by constant scales (from 7 on)"
            case _:
                pass
    return None


def write_program(
    writer: Writer,
    program: Program,
    x: ir.Value,
    source: Source,
    stages: Sequence[Stage],
    further: Sequence[ir.Value] = (),
) -> ir.Value:
    """Append the program's nodes, with the epilogue before its rearrangement; returns the output.

    Args:
        writer: of the nodes.
        program: what is written.
        x, further: its inputs.
        source: the trained values.
        stages: the epilogue.
    """
    assert len(further) == len(program.inputs), "every input has its value"
    values, shapes, sums = [x, *further], program.shapes(), program.sums()
    for step in program.steps:
        inputs = [values[value] for value in step.inputs]
        value = write_op(step.op, writer, inputs, [shapes[each] for each in step.inputs], source)
        if len(values) in sums:
            for stage in stages:
                value = write_stage(writer, stage, value, step.op)
        values.append(value)
    return values[-1]


def write_stage(writer: Writer, stage: Stage, value: ir.Value, op: Op) -> ir.Value:
    """One epilogue node behind ``op``, its per-channel parameters in the order of the convolution's channels."""
    inputs: list[ir.Value | None] = []
    for number, parameter in enumerate(stage.parameters):
        if number == stage.data_input:
            inputs.append(value)
        elif parameter is None or not isinstance(op, Conv) or parameter.channel_axis is None or len(op.blocks) == 1:
            inputs.append(_own_constant(writer, stage, parameter))
        else:
            repeated = conv_channels(parameter.values, op, parameter.channel_axis)
            inputs.append(writer.array(f"{stage.node.op_type}_parameter", repeated))
    # MXNet says spatial=0 of one scale for each channel: runtimes only take that folded into the deconv before it.
    return writer.copy(stage.node, inputs, without="spatial")


def _own_constant(writer: Writer, stage: Stage, parameter: Parameter | None) -> ir.Value | None:
    """An unchanged parameter, written anew so that the copy does not depend on where the original stands."""
    return None if parameter is None else writer.array(f"{stage.node.op_type}_parameter", parameter.values)


def write_op(op: Op, writer: Writer, inputs: list[ir.Value], shapes: list[Shape], source: Source) -> ir.Value:
    """One operation as nodes."""
    match op:
        case NativeDeconv():
            return _native(op, writer, inputs, source)
        case Conv(flat=True):
            return _product(op, writer, inputs[0], shapes[0], source)
        case Conv():
            return _conv(op, writer, inputs[0], source)
        case Add():
            return writer.op("Add", inputs)
        case Difference():
            return _difference(op, writer, inputs[0], shapes[0], source)
        case Spread():
            return _spread(op, writer, inputs[0], shapes[0], source)
        case AddBias():
            return _add_bias(writer, inputs[0], len(shapes[0]), source)
    return _move(op, writer, inputs, shapes[0])


def _move(op: Op, writer: Writer, inputs: list[ir.Value], shape: Shape) -> ir.Value:
    """Data movement as a node."""
    match op:
        case Pad():
            return writer.pad(inputs[0], op.begin, op.end)
        case Slice():
            return writer.slice(inputs[0], op.begin, op.end)
        case Reshape():
            return writer.reshape(inputs[0], op.dims, shape)
        case Transpose():
            return writer.op("Transpose", inputs, {"perm": list(op.perm)})
        case Concat():
            return writer.op("Concat", inputs, {"axis": op.axis})
        case DepthToSpace():
            mode = {"mode": "CRD"} if op.order == "channel_major" else {}
            return writer.op("DepthToSpace", inputs, {"blocksize": op.block, **mode})
        case Repeat():
            return writer.repeat(inputs[0], op.factors)
        case Take():
            return _take(op, writer, inputs[0], shape)
        case Interpolate():
            return writer.interpolate(inputs[0], op.how, shape)
    raise TypeError(f"ONNX has no form for {type(op).__name__}")


def _take(op: Take, writer: Writer, value: ir.Value, shape: Shape) -> ir.Value:
    """Gather, from rows with one of zeros behind them where some place has none; and the sums of several of them."""
    rows, rest = shape[0] or 0, (0,) * (len(shape) - 1)
    most = max(1, *map(len, op.places))
    if any(len(each) < most for each in op.places):
        value = writer.pad(value, (0, *rest), (1, *rest))
    total: ir.Value | None = None
    for number in range(most):
        index = np.array([each[number] if number < len(each) else rows for each in op.places], np.int64)
        taps = writer.op("Gather", [value, writer.array("taps", index.reshape(op.sizes))], {"axis": 0})
        total = taps if total is None else writer.op("Add", [total, taps])
    assert total is not None, "one row is taken at least"
    return total


def _native(op: NativeDeconv, writer: Writer, inputs: list[ir.Value], source: Source) -> ir.Value:
    """The original node on the given weights, and the crop behind it; or one simpler node."""
    if op.deconv.written_out is not None and not op.simplified:
        return write_program(writer, as_written(op.deconv, "NCHW"), inputs[0], source, (), inputs[1:])
    x = inputs[0]
    read, shape = (lambda: deconv_kernel(source.kernel(), op.deconv)), op.deconv.kernel_shape
    if op.deconv.diagonal and not op.simplified:
        read, shape = lambda: dense_of(source.kernel()), (shape[0], shape[0], *shape[2:])
    kernel = None
    if "kernel" in source.run_time:
        steps = composite_steps(op.deconv, source.shape) if op.deconv.written_out else ()
        kernel = _computed(writer, source, steps)
    weights = [kernel or writer.lazy("weight", (source.key, "W", op.simplified), read, source.dtype, shape)]
    bias = source.run_time.get("bias")
    if op.deconv.has_bias and bias is not None:
        weights.append(bias)
    elif op.deconv.has_bias and source.bias is not None:
        weights.append(writer.lazy("bias", (source.key, "B"), source.bias, source.dtype, [op.deconv.out_channels]))
    if op.simplified:
        return deconv_node(writer, op.deconv, [x, *weights])
    return crop_output(writer, op.deconv, writer.copy(source.original, [x, *weights]))


def crop_output(writer: Writer, deconv: Deconv, y: ir.Value) -> ir.Value:
    """What the crop behind ``deconv`` leaves of its output."""
    begin, end = zip(*deconv.crop, strict=True) if deconv.crop else ((), ())
    return writer.slice(y, (0, 0, *begin), (0, 0, *end)) if any(begin + end) else y


def deconv_node(writer: Writer, deconv: Deconv, inputs: Sequence[ir.Value]) -> ir.Value:
    """A ConvTranspose with every attribute spelled out; pads are at least 0."""
    axes = deconv.axes
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": [axis.kernel for axis in axes],
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [*(axis.pad_begin for axis in axes), *(axis.pad_end for axis in axes)],
        "output_padding": [axis.output_pad for axis in axes],
        "group": deconv.groups,
    }
    return writer.op("ConvTranspose", list(inputs), attributes, notes=True)


def _conv(op: Conv, writer: Writer, x: ir.Value, source: Source) -> ir.Value:
    """Conv with its filter and bias, which are made when the model is written, or by operators."""
    weights = [_filter(op, writer, source), *([_bias(op, writer, source)] if op.has_bias else [])]
    return writer.op("Conv", [x, *weights], conv_attributes(op), notes=True)


def _product(op: Conv, writer: Writer, x: ir.Value, shape: Shape, source: Source) -> ir.Value:
    """MatMul of the filter ``(O, I)`` and all pixels ``(N, I, P)``, and an Add of the bias."""
    sizes = [Dim(size) for size in shape[2:] if size is not None]
    pixels, matrix = math.prod(dim.times for dim in sizes), op.filter_shape[:2]
    x = writer.reshape(x, (Dim(1, axis=0), Dim(op.in_channels), Dim(pixels)), shape)
    key = (source.key, op)
    if "kernel" in source.run_time:
        filled = _computed(writer, source, filter_steps(op, source.shape))
        weight = writer.reshape(filled, [Dim(size) for size in matrix], op.filter_shape)
    else:
        weight = writer.lazy(
            "weight", key, lambda: conv_filter(source.kernel(), op).reshape(matrix), source.dtype, matrix
        )
    y = writer.op("MatMul", [weight, x], notes=True)
    if op.has_bias:
        y = writer.op("Add", [y, _bias_column(op, writer, source)])
    return writer.reshape(y, (Dim(1, axis=0), Dim(op.total_channels), *sizes), (shape[0], op.total_channels, pixels))


def _difference(op: Difference, writer: Writer, x: ir.Value, shape: Shape, source: Source) -> ir.Value:
    """A depthwise convolution of −1 and 1: one pass, in a runtime's own layout of maps."""
    channels, rank = shape[1], len(shape)
    assert channels is not None, "channels are always known"
    kernel, pads = [1] * (rank - 2), [0] * (rank - 2)
    kernel[op.axis - 2], pads[op.axis - 2] = 2, 1

    def taps() -> Array:
        one = np.reshape(np.array([-1, 1], source.dtype.numpy()), (1, 1, *kernel))
        return np.repeat(one, channels, axis=0)

    key = ("difference", source.dtype, channels, *kernel)
    weight = writer.lazy("difference", key, taps, source.dtype, (channels, 1, *kernel))
    return writer.op("Conv", [x, weight], {"kernel_shape": kernel, "pads": pads * 2, "group": channels})


def _filter(op: Conv, writer: Writer, source: Source) -> ir.Value:
    if "kernel" in source.run_time:
        return _computed(writer, source, filter_steps(op, source.shape))
    if source.stored is not None:
        return write_filter(writer, op, source.stored, source.key)
    key, shape = (source.key, op), op.filter_shape
    return writer.lazy("weight", key, lambda: conv_filter(source.kernel(), op), source.dtype, shape)


def _bias_column(op: Conv, writer: Writer, source: Source) -> ir.Value:
    """The bias beside a matrix of channels and pixels."""
    if "bias" in source.run_time:
        column = (Dim(op.total_channels), Dim(1))
        return writer.reshape(_bias(op, writer, source), column, (op.total_channels,))
    assert source.bias is not None, "a deconv with a bias has its values"
    return writer.array("bias", conv_channels(source.bias(), op).reshape(-1, 1))


def _computed(writer: Writer, source: Source, steps: Sequence[Op]) -> ir.Value:
    """What ``steps`` make of a kernel that the model computes."""
    value, steps = source.run_time["kernel"], (*source.own, *steps)
    shape: Shape = source.shape
    if steps and keeps_order(steps, source.shape):
        steps = steps[-1:]  # a Reshape to the filter's shape
    for step in steps:
        value, shape = _move(step, writer, [value], shape), step.shape(shape)
    return value


def _bias(op: Conv, writer: Writer, source: Source) -> ir.Value:
    if (value := source.run_time.get("bias")) is not None:
        return writer.op("Gather", [value, writer.integers("channels", channel_places(op).tolist())], {"axis": 0})
    assert source.bias is not None, "a deconv with a bias has its values"
    read, key = source.bias, (source.key, "bias", len(op.blocks), op.order)
    return writer.lazy("bias", key, lambda: conv_channels(read(), op), source.dtype, [op.total_channels])


def conv_attributes(op: Conv) -> dict[str, int | list[int]]:
    """Attributes of Conv and QLinearConv."""
    attributes: dict[str, int | list[int]] = {"kernel_shape": list(op.kernel)}
    if any(op.pad_begin) or any(op.pad_end):
        attributes["pads"] = [*op.pad_begin, *op.pad_end]
    if max(op.dilations) > 1:
        attributes["dilations"] = list(op.dilations)
    if op.groups > 1:
        attributes["group"] = op.groups
    return attributes


def _spread(op: Spread, writer: Writer, x: ir.Value, shape: Shape, source: Source) -> ir.Value:
    """MatMul with the banded matrix, from the right on the last axis, from the left on the one before."""
    axis, last = op.axis.with_in_size(shape[op.at]), op.at == len(shape) - 1
    assert axis.in_size is not None, "a separable form is only offered where sizes are known"
    assert axis.out_size is not None, "a separable form is only offered where sizes are known"

    def matrix() -> Array:
        vectors = vectors_of(source.kernel())
        assert vectors is not None, "a separable form is only offered for such filters"
        whole = axis_matrix(vectors[op.number], axis)
        return whole if last else np.ascontiguousarray(whole.T)

    sizes = (axis.in_size, axis.out_size) if last else (axis.out_size, axis.in_size)
    constant = writer.lazy("matrix", (source.key, op.number, axis, last), matrix, source.dtype, sizes)
    return writer.op("MatMul", [x, constant] if last else [constant, x], notes=True)


def _add_bias(writer: Writer, x: ir.Value, rank: int, source: Source) -> ir.Value:
    """The bias as a broadcast Add."""
    if (value := source.run_time.get("bias")) is not None:
        dims = [Dim(1, axis=0), *[Dim(1)] * (rank - 2)]
        return writer.op("Add", [x, writer.reshape(value, dims, (None,))])
    assert source.bias is not None, "a deconv with a bias has its values"
    bias = np.reshape(source.bias(), (-1, *(1,) * (rank - 2)))
    return writer.op("Add", [x, writer.array("bias", bias)])
