"""A single layer, of no model in particular, as a TFLite model with random weights: for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Dim, Reshape
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Quantisation, Weights
from splitdeconv.deconv.written import whole_pads
from splitdeconv.errors import UsageError
from splitdeconv.formats.tflite.emit import Emitter
from splitdeconv.formats.tflite.epilogue import Epilogue
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.operands import Constant
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.writer import GraphWriter
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import COMPOSITE
from splitdeconv.lowerings.lowering import Builder
from splitdeconv.lowerings.native import as_written, own_windows

_EPILOGUE: Mapping[str, int] = {
    "Relu": Builtin.RELU,
    "Clip": Builtin.RELU6,
    "Tanh": Builtin.TANH,
    "Sigmoid": Builtin.LOGISTIC,
}
_STEP = np.float32(8 / 255)  # of int8 maps
_LARGEST = 127  # of int8 weights


def layer_root(deconv: Deconv, epilogue: Sequence[str]) -> Any:
    """The schema's tree: input ``x``, TRANSPOSE_CONV or what stretches and a convolution, ``epilogue``, output ``y``.

    Args:
        deconv: of definite sizes; float32, or with any quantisation for int8 with weights per channel.
        epilogue: names of element-wise operators in ONNX.

    Raises:
        UsageError: TFLite has no operator for it.
    """
    _check(deconv, epilogue)
    root = tfl.ModelT(version=3, operatorCodes=[], buffers=[tfl.BufferT()])
    root.subgraphs = [tfl.SubGraphT(tensors=[], operators=[tfl.OperatorT()], name=b"main")]
    plain, writer = replace(deconv, quant=None), GraphWriter(root, 0)
    program = _program(plain)
    node = Node("deconv", Graph(root, 0), 0, plain, 0, 0, 0, Constant(0, 0), None, Epilogue(0), ())
    emitter = Emitter(writer, node, lambda tensor: tensor, _weights(deconv))
    source = writer.tensor(emitter.types.source, program.in_shape, "x")
    names = [f"y{number}" for number in range(len(epilogue))]
    values = [writer.tensor(emitter.types.result, program.shapes()[-1], name) for name in (*names, "y")]
    emitter.emit(program, [source], values[0])
    for operator, x, y in zip(epilogue, values, values[1:], strict=False):
        emitter.add(_EPILOGUE[operator], [x], y)
    graph = writer.subgraph
    graph.operators, graph.inputs, graph.outputs = writer.operators, _one(source), _one(values[-1])
    return writer.root


def _check(deconv: Deconv, epilogue: Sequence[str]) -> None:
    transposed = deconv.written_out is None
    reason = ""
    if len(deconv.axes) != 2 or deconv.dtype != "float32":
        reason = f"a TFLite layer has two axes, float32 or int8; this has {len(deconv.axes)}, {deconv.dtype}"
    elif transposed and (deconv.groups > 1 or any(axis.dilation > 1 for axis in deconv.axes)):
        reason = "TRANSPOSE_CONV has neither groups nor dilation"
    elif transposed and any(min(axis.pad_begin, axis.pad_end) < 0 or axis.output_pad for axis in deconv.axes):
        reason = "TRANSPOSE_CONV has neither output_pad nor pads below 0"
    elif unknown := [name for name in epilogue if name not in _EPILOGUE]:
        reason = f"epilogue '{unknown[0]}' is not known in TFLite; there are {', '.join(_EPILOGUE)}"
    if reason:
        raise UsageError(f"{deconv.describe()}: {reason}")


def _program(deconv: Deconv) -> Program:
    if deconv.written_out is None:
        return lower(deconv, "NHWC", COMPOSITE)
    return _with_zeros(deconv) if deconv.written_out.stretch == "zeros" else as_written(deconv, "NHWC")


def _with_zeros(deconv: Deconv) -> Program:
    """As litert-torch writes StyleGAN2's ``upfirdn2d``; one axis after the other, for it takes no pads of six axes.

    Before: ``(N, H, W, I)``.
    After: Reshape ``(N, H, 1, W, I)``, Pad ``(N, H, s, W, I)``, Reshape ``(N, H·s, W, 1, I)``, Pad, Reshape
    ``(N, H·s, W·s, I)``, Pad around that, Conv without pads.
    """
    written, (rows, columns) = deconv.written_out, deconv.strides
    assert written is not None, "asked of written-out deconvs only"
    build = Builder(deconv, "NHWC")
    value = build.add(Reshape((Dim(1, 0), Dim(1, 1), Dim(1), Dim(1, 2), Dim(1, 3))), build.x)
    value = build.pad(value, [2], [0], [rows - 1])
    value = build.add(Reshape((Dim(1, 0), Dim(rows, 1), Dim(1, 3), Dim(1), Dim(1, 4))), value)
    value = build.pad(value, [3], [0], [columns - 1])
    value = build.add(Reshape((Dim(1, 0), Dim(1, 1), Dim(columns, 2), Dim(1, 4))), value)
    value = build.resize(value, whole_pads(deconv))
    windows = own_windows(written, [(0, 0)] * len(deconv.axes))
    return build.program(build.convolve_by(value, windows, "block_major", bias=deconv.has_bias, first_row=0))


def _weights(deconv: Deconv) -> Weights:
    """Random values; as int8 for maps in steps of ``_STEP``, scaled for each output channel of the layer."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(deconv.weights_shape) / np.sqrt(deconv.in_channels)
    bias = rng.standard_normal(deconv.out_channels) if deconv.has_bias else None
    if deconv.quant is None:
        return Weights(kernel, bias).as_type("float32")
    scale = np.full(deconv.out_channels, np.abs(kernel).max() / _LARGEST, np.float32)
    stored = np.rint(kernel / scale[0]).astype(np.int8)
    zeros = np.zeros(deconv.out_channels, np.int32)
    quant = Quantisation("int8", _STEP, 0, scale, zeros, "int8", 4 * _STEP, 0)
    return Weights(stored, None if bias is None else np.rint(bias / (_STEP * scale)).astype(np.int32), quant)


def _one(tensor: int) -> Any:
    return np.asarray([tensor], np.int32)
