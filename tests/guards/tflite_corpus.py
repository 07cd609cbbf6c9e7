"""Small TFLite models with one TRANSPOSE_CONV, made with the schema's object API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
_IN, _OUT_CHANNELS = (1, 4, 5, 3), 5
_KERNEL = (_OUT_CHANNELS, 3, 4, 3)


def operators(content: bytes) -> list[str]:
    """Names of the operators of the first graph, in order."""
    model = tfl.ModelT.InitFromObj(tfl.Model.GetRootAs(content, 0))
    names = {number: name for name, number in vars(tfl.BuiltinOperator).items() if isinstance(number, int)}
    return [names[model.operatorCodes[each.opcodeIndex].builtinCode] for each in model.subgraphs[0].operators]


class _Tree:
    """A model under construction."""

    def __init__(self) -> None:
        self.root = tfl.ModelT(version=3, operatorCodes=[], buffers=[tfl.BufferT()])
        self.graph = tfl.SubGraphT(tensors=[], operators=[], name=b"main")

    def tensor(self, dtype: str, shape: Sequence[int], name: str, quant: Any = None, values: Any = None) -> int:
        buffer = 0
        if values is not None:
            stored = np.ascontiguousarray(values).astype(dtype).tobytes()
            self.root.buffers.append(tfl.BufferT(data=np.frombuffer(stored, np.uint8)))
            buffer = len(self.root.buffers) - 1
        sizes = np.asarray(shape, np.int32)
        self.graph.tensors.append(tfl.TensorT(sizes, _TYPES[dtype], buffer, name, quant))
        return len(self.graph.tensors) - 1

    def operator(self, name: str, version: int, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """Append an operator; returns its output."""
        builtin = getattr(tfl.BuiltinOperator, name)
        code = tfl.OperatorCodeT(deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=version)
        self.root.operatorCodes.append(code)
        index = len(self.root.operatorCodes) - 1
        found = tfl.OperatorT(index, np.asarray(inputs, np.int32), np.array([output], np.int32))
        if options is not None:
            found.builtinOptionsType = getattr(tfl.BuiltinOptions, type(options).__name__[:-1])
            found.builtinOptions = options
        self.graph.operators.append(found)
        return output

    def packed(self, x: int, y: int) -> bytes:
        self.graph.tensors[y].name = "y"
        self.graph.inputs, self.graph.outputs = np.array([x], np.int32), np.array([y], np.int32)
        self.root.subgraphs = [self.graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.root.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _quant(scale: Any, zero: int = 0) -> Any:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    return tfl.QuantizationParametersT(scale=scales, zeroPoint=np.full(scales.shape, zero, np.int64))


def _float(
    *, kernel_type: str = "float32", same: bool = True, bias: bool = True, activation: int = 0, after: str = ""
) -> bytes:
    rng, tree = np.random.default_rng(3), _Tree()
    values = rng.integers(-8, 9, _KERNEL)
    x = tree.tensor("float32", _IN, "x")
    if kernel_type == "float16":
        stored = tree.tensor("float16", _KERNEL, "kernel16", values=values)
        opened = tree.tensor("float32", _KERNEL, "kernel")
        kernel = tree.operator("DEQUANTIZE", 3, [stored], opened, tfl.DequantizeOptionsT())
    else:
        scale = _quant(rng.uniform(0.005, 0.03, _OUT_CHANNELS)) if kernel_type == "int8" else None
        kernel = tree.tensor(kernel_type, _KERNEL, "kernel", scale, values)
    biases = [tree.tensor("float32", [_OUT_CHANNELS], "bias", values=np.arange(_OUT_CHANNELS))] if bias else []
    y = _deconv(tree, "float32", [kernel, x, *biases], None, same, activation)
    return tree.packed(x, _follow(tree, "float32", y, after))


def _integer(
    dtype: str, *, per_channel: bool = False, bias: bool = True, same: bool = True, activation: int = 0, after: str = ""
) -> bytes:
    rng, tree = np.random.default_rng(5), _Tree()
    wide, unsigned = dtype == "int16", dtype == "uint8"
    in_scale, out_scale = (0.0002, 0.002) if wide else (0.05, 0.5)
    zeros = (0, 0) if wide else ((121, 90) if unsigned else (-7, 23))
    scales = rng.uniform(0.005, 0.02, _OUT_CHANNELS if per_channel else 1)
    weights = rng.integers(0, 256, _KERNEL) if unsigned else rng.integers(-127, 128, _KERNEL)
    x = tree.tensor(dtype, _IN, "x", _quant(in_scale, zeros[0]))
    kernel_type = "uint8" if unsigned else "int8"
    kernel = tree.tensor(kernel_type, _KERNEL, "kernel", _quant(scales, 127 if unsigned else 0), weights)
    biases = []
    if bias:
        values = rng.integers(-5000, 5000, _OUT_CHANNELS)
        unit = _quant(np.float32(in_scale) * scales.astype(np.float32))
        biases = [tree.tensor("int64" if wide else "int32", [_OUT_CHANNELS], "bias", unit, values)]
    y = _deconv(tree, dtype, [kernel, x, *biases], _quant(out_scale, zeros[1]), same, activation)
    return tree.packed(x, _follow(tree, dtype, y, after))


def _deconv(tree: _Tree, dtype: str, operands: Sequence[int], quant: Any, same: bool, activation: int) -> int:
    """Stride 2 down and 3 across; with SAME padding the output is one column short of the usual."""
    rows, columns = (8, 14) if same else (9, 16)
    shape = (1, rows, columns, _OUT_CHANNELS)
    sizes = tree.tensor("int32", [4], "sizes", values=shape)
    y = tree.tensor(dtype, shape, "deconv", quant)
    options = tfl.TransposeConvOptionsT(
        padding=0 if same else 1, strideH=2, strideW=3, fusedActivationFunction=activation
    )
    return tree.operator("TRANSPOSE_CONV", 4 if activation else 3, [sizes, *operands], y, options)


def _follow(tree: _Tree, dtype: str, y: int, name: str) -> int:
    """Nothing, RELU, the ADD of a constant for each channel, or a crop (STRIDED_SLICE) behind ``y``."""
    source = tree.graph.tensors[y]
    shape, quant = tuple(source.shape), source.quantization
    version = {"int8": 2, "int16": 3}.get(dtype, 1)
    if name == "RELU":
        return tree.operator("RELU", version, [y], tree.tensor(dtype, shape, "after", quant))
    if name == "ADD":
        values = np.arange(_OUT_CHANNELS)
        constant = tree.tensor(dtype, [_OUT_CHANNELS], "constant", None if quant is None else _quant(0.2), values)
        out = tree.tensor(dtype, shape, "after", None if quant is None else _quant(quant.scale * 1.1, 3))
        return tree.operator("ADD", version, [y, constant], out, tfl.AddOptionsT())
    if name == "CROP":
        begin, end = [0, 1, 2, 0], [1, shape[1], shape[2] - 1, shape[3]]
        bounds = [tree.tensor("int32", [4], f"bound{n}", values=v) for n, v in enumerate((begin, end, [1] * 4))]
        out = tree.tensor(dtype, [stop - start for start, stop in zip(begin, end, strict=True)], "after", quant)
        options = tfl.StridedSliceOptionsT()
        return tree.operator("STRIDED_SLICE", {"int8": 2, "int16": 4}.get(dtype, 1), [y, *bounds], out, options)
    return y


MODELS: Mapping[str, Callable[[], bytes]] = {
    "tflite_same": _float,
    "tflite_valid": partial(_float, same=False, bias=False),
    "tflite_relu6": partial(_float, activation=3, after="ADD"),
    "tflite_crop": partial(_float, after="CROP"),
    "tflite_float16": partial(_float, kernel_type="float16"),
    "tflite_hybrid": partial(_float, kernel_type="int8"),
    "tflite_int8": partial(_integer, "int8"),
    "tflite_int8_per_channel": partial(_integer, "int8", per_channel=True, activation=1, after="ADD"),
    "tflite_int8_crop": partial(_integer, "int8", per_channel=True, same=False, bias=False, after="CROP"),
    "tflite_uint8": partial(_integer, "uint8", after="RELU"),
    "tflite_int16": partial(_integer, "int16", per_channel=True),
}
