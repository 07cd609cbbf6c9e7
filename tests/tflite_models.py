"""TFLite models made from scratch with the schema's object API: one TRANSPOSE_CONV, and operators after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl
from hypothesis import strategies as st

from splitdeconv.formats.tflite import TfliteModel, file

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
KINDS = ("float32", "float16", "hybrid", "int8", "int8_per_channel", "uint8", "int16")
ACTIVATIONS = (0, 1, 2, 3)  # none, RELU, RELU_N1_TO_1, RELU6


@dataclass(frozen=True)
class Case:
    """One random model. ``kind`` says how it is quantised; ``after`` names operators that follow."""

    kind: str = "float32"
    batch: int = 1
    in_sizes: tuple[int, int] = (4, 5)
    kernel: tuple[int, int] = (3, 4)
    stride: tuple[int, int] = (2, 2)
    in_channels: int = 3
    out_channels: int = 5
    same: bool = True
    spare: tuple[int, int] = (0, 0)  # outputs fewer (SAME) or more (VALID) than usual; LiteRT takes up to stride - 1
    bias: bool = True
    bias_rank: int = 1  # converters leave (1, 1, 1, channels) where they fold a batch norm
    activation: int = 0
    after: tuple[str, ...] = ()
    seed: int = 0
    computed: bool = False  # the output shape, from that of the input, as converters write it where the batch is open

    @property
    def activation_type(self) -> str:
        if self.kind in ("float32", "float16", "hybrid"):
            return "float32"
        return self.kind.split("_")[0]

    @property
    def out_sizes(self) -> tuple[int, int]:
        sizes = []
        for size, kernel, stride, less in zip(self.in_sizes, self.kernel, self.stride, self.spare, strict=True):
            sizes.append(size * stride - less if self.same else (size - 1) * stride + kernel + less)
        return sizes[0], sizes[1]

    def with_(self, **changes: Any) -> Case:
        return replace(self, **changes)


@st.composite
def cases(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Case:
    """LiteRT's own space of TRANSPOSE_CONV."""
    pair = st.tuples(st.integers(1, 6), st.integers(1, 6))
    stride = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.sampled_from([stride, (stride[0], stride[0])]))
    return Case(
        kind=draw(st.sampled_from(kinds)),
        batch=draw(st.sampled_from([1, 1, 2, 3])),
        in_sizes=draw(pair),
        kernel=draw(pair),
        stride=stride,
        in_channels=draw(st.integers(1, 9)),
        out_channels=draw(st.integers(1, 9)),
        same=draw(st.booleans()),
        spare=(draw(st.integers(0, stride[0] - 1)), draw(st.integers(0, stride[1] - 1))),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        seed=draw(st.integers(0, 2**32 - 1)),
        computed=draw(st.booleans()),
    )


@dataclass
class Tree:
    """A model under construction."""

    root: Any = field(default_factory=lambda: tfl.ModelT(version=3, operatorCodes=[], buffers=[tfl.BufferT()]))
    graph: Any = field(default_factory=lambda: tfl.SubGraphT(tensors=[], operators=[], name=b"main"))
    further: list[Any] = field(default_factory=list)  # subgraphs that operators of the first one call

    def tensor(self, dtype: str, shape: Any, name: str, quant: Any = None, values: Any = None) -> int:
        buffer = 0
        if values is not None:
            stored = np.frombuffer(np.ascontiguousarray(values).astype(dtype).tobytes(), np.uint8)
            self.root.buffers.append(tfl.BufferT(data=stored))
            buffer = len(self.root.buffers) - 1
        self.graph.tensors.append(
            tfl.TensorT(
                shape=np.asarray(shape, np.int32), type=TYPES[dtype], buffer=buffer, name=name, quantization=quant
            )
        )
        return len(self.graph.tensors) - 1

    def operator(self, name: str, version: int, inputs: list[int], output: int, options: Any = None) -> None:
        builtin = getattr(tfl.BuiltinOperator, name)
        code = tfl.OperatorCodeT(deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=version)
        self.root.operatorCodes.append(code)
        found = tfl.OperatorT(
            opcodeIndex=len(self.root.operatorCodes) - 1,
            inputs=np.asarray(inputs, np.int32),
            outputs=np.asarray([output], np.int32),
        )
        if options is not None:
            union = type(options).__name__[:-1]
            second = "" if hasattr(tfl.BuiltinOptions, union) else "2"
            setattr(found, f"builtinOptions{second}Type", getattr(getattr(tfl, f"BuiltinOptions{second}"), union))
            setattr(found, f"builtinOptions{second}", options)
        self.graph.operators.append(found)

    def custom(self, name: str, inputs: list[int], output: int, options: bytes) -> None:
        """An operator that TFLite does not define."""
        code = tfl.OperatorCodeT(deprecatedBuiltinCode=32, builtinCode=32, customCode=name, version=1)
        self.root.operatorCodes.append(code)
        self.graph.operators.append(
            tfl.OperatorT(
                opcodeIndex=len(self.root.operatorCodes) - 1,
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray([output], np.int32),
                customOptions=np.frombuffer(options, np.uint8),
            )
        )

    def packed(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        self.root.subgraphs = [self.graph, *self.further]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.root.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def quant(scale: Any, zero: Any = 0) -> Any:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape).copy()
    return tfl.QuantizationParametersT(scale=scales, zeroPoint=zeros)


def build(case: Case) -> bytes:
    """The model's bytes; input ``x``, output ``y``."""
    rng = np.random.default_rng(case.seed)
    tree = Tree()
    dtype = case.activation_type
    shape_in = (case.batch, *case.in_sizes, case.in_channels)
    shape_out = (case.batch, *case.out_sizes, case.out_channels)
    scales = _scales(case, rng)
    x = tree.tensor(dtype, shape_in, "x", scales["in"])
    sizes = _computed(tree, x, shape_out) if case.computed else tree.tensor("int32", (4,), "sizes", values=shape_out)
    operands = [sizes, _kernel(tree, case, rng, scales), x]
    if case.bias:
        operands.append(_bias(tree, case, rng, scales))
    y = tree.tensor(dtype, shape_out, "deconv;more", scales["out"])
    options = tfl.TransposeConvOptionsT(
        padding=0 if case.same else 1,
        strideH=case.stride[0],
        strideW=case.stride[1],
        fusedActivationFunction=case.activation,
    )
    tree.operator("TRANSPOSE_CONV", 4 if case.activation else 3, operands, y, options)
    for number, name in enumerate(case.after):
        y = _follow(tree, case, rng, name, y, f"after{number}")
    tree.graph.tensors[y].name = "y"
    return tree.packed([x], [y])


def _computed(tree: Tree, x: int, shape: tuple[int, ...]) -> int:
    """An output shape whose batch is that of the input."""
    whole, batch = tree.tensor("int32", (4,), "in_shape"), tree.tensor("int32", (), "batch")
    tree.operator("SHAPE", 1, [x], whole, tfl.ShapeOptionsT(outType=TYPES["int32"]))
    bounds = [tree.tensor("int32", (1,), f"bound{n}", values=[value]) for n, value in enumerate((0, 1, 1))]
    tree.operator("STRIDED_SLICE", 1, [whole, *bounds], batch, tfl.StridedSliceOptionsT(shrinkAxisMask=1))
    fixed = [tree.tensor("int32", (), f"size{n}", values=size) for n, size in enumerate(shape[1:])]
    packed = tree.tensor("int32", (4,), "sizes")
    tree.operator("PACK", 1, [batch, *fixed], packed, tfl.PackOptionsT(valuesCount=4))
    return packed


def _scales(case: Case, rng: np.random.Generator) -> dict[str, Any]:
    if case.activation_type == "float32":
        per_channel = quant(rng.uniform(0.005, 0.03, case.out_channels)) if case.kind == "hybrid" else None
        return {"in": None, "out": None, "kernel": per_channel}
    symmetric = case.kind == "int16"
    lowest = 0 if case.kind == "uint8" else -128
    zeros = [0, 0] if symmetric else rng.integers(lowest + 40, lowest + 216, 2)
    many = case.out_channels if case.kind in ("int8_per_channel", "int16") else 1
    kernel = rng.uniform(0.002, 0.02, many)
    in_scale = float(rng.uniform(0.01, 0.1)) / (256 if symmetric else 1)
    taps = max(1, case.in_channels * np.prod(case.kernel) / np.prod(case.stride))
    out_scale = (
        in_scale * kernel.mean() * 74 * (74 * 256 if symmetric else 74) * np.sqrt(taps) / (20000 if symmetric else 60)
    )
    return {
        "in": quant(in_scale, zeros[0]),
        "out": quant(out_scale, zeros[1]),
        "kernel": quant(kernel, int(rng.integers(100, 150)) if case.kind == "uint8" else 0),
    }


def _kernel(tree: Tree, case: Case, rng: np.random.Generator, scales: dict[str, Any]) -> int:
    shape = (case.out_channels, *case.kernel, case.in_channels)
    if case.kind == "float32":
        return tree.tensor("float32", shape, "kernel", values=rng.integers(-8, 9, shape))
    if case.kind == "float16":
        stored = tree.tensor("float16", shape, "kernel16", values=rng.integers(-8, 9, shape))
        opened = tree.tensor("float32", shape, "kernel")
        tree.operator("DEQUANTIZE", 3, [stored], opened, tfl.DequantizeOptionsT())
        return opened
    if case.kind == "uint8":
        return tree.tensor("uint8", shape, "kernel", scales["kernel"], rng.integers(0, 256, shape))
    return tree.tensor("int8", shape, "kernel", scales["kernel"], trained_like(rng, shape))


def trained_like(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Bell-shaped as trained weights are, which NPU compilers compress; the ends are reached."""
    return np.clip(np.rint(rng.normal(0, 32, shape)), -127, 127)


def _bias(tree: Tree, case: Case, rng: np.random.Generator, scales: dict[str, Any]) -> int:
    shape = (*(1,) * (case.bias_rank - 1), case.out_channels)
    if case.activation_type == "float32":
        return tree.tensor("float32", shape, "bias", values=rng.integers(-8, 9, shape))
    unit = quant(scales["in"].scale[0] * scales["kernel"].scale)
    large = 100_000 if case.kind == "int16" else 5_000
    dtype = "int64" if case.kind == "int16" else "int32"
    return tree.tensor(dtype, shape, "bias", unit, rng.integers(-large, large, shape))


def _follow(tree: Tree, case: Case, rng: np.random.Generator, name: str, y: int, label: str) -> int:
    """One operator behind ``y``; ``RELU*`` rescales, ``RELU=`` keeps the scale."""
    source = tree.graph.tensors[y]
    dtype, unit, shape = case.activation_type, source.quantization, tuple(source.shape)
    version = {"int8": 2, "int16": 3}.get(dtype, 1)
    if name.startswith("RELU"):
        if unit is not None and name.endswith("*"):
            unit = quant(unit.scale * 0.6, int(unit.zeroPoint[0]) if dtype == "int16" else int(unit.zeroPoint[0]) - 9)
        out = tree.tensor(dtype, shape, label, unit)
        tree.operator(name.rstrip("*="), version, [y], out)
        return out
    if name == "ADD":
        values, constant_unit = rng.integers(-8, 9, case.out_channels), None
        if unit is not None:
            constant_unit = quant(unit.scale * 0.3, 0)
            unit = quant(unit.scale * 1.1, int(unit.zeroPoint[0]))
            values = rng.integers(0 if dtype == "uint8" else -127, 128, case.out_channels)
        constant = tree.tensor(dtype, (case.out_channels,), label + "constant", constant_unit, values)
        out = tree.tensor(dtype, shape, label, unit)
        tree.operator("ADD", version, [y, constant], out, tfl.AddOptionsT())
        return out
    assert name == "CROP"
    end = [size - (axis in (1, 2) and size > 2) for axis, size in enumerate(shape)]
    begin = [int(axis in (1, 2) and size > 3) for axis, size in enumerate(shape)]
    bounds = [tree.tensor("int32", (4,), label + str(n), values=v) for n, v in enumerate((begin, end, [1] * 4))]
    out = tree.tensor(dtype, [e - b for b, e in zip(begin, end, strict=True)], label, unit)
    tree.operator("STRIDED_SLICE", {"int8": 2, "int16": 4}.get(dtype, 1), [y, *bounds], out, tfl.StridedSliceOptionsT())
    return out


def loaded(content: bytes, numerics: str = "exact") -> TfliteModel:
    """The model that a file's content holds."""
    return TfliteModel(file.from_bytes(content, "case"), None, numerics)


def random_input(case: Case, seed: int) -> Any:
    """Random values over the whole range of the type; small integers for float models, real values for hybrid ones."""
    rng = np.random.default_rng(seed)
    shape = (case.batch, *case.in_sizes, case.in_channels)
    if case.kind == "hybrid":
        return rng.standard_normal(shape).astype(np.float32)
    if case.activation_type == "float32":
        return rng.integers(-8, 9, shape).astype(np.float32)
    bounds = np.iinfo(case.activation_type)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(case.activation_type)
