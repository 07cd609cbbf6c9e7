"""Random sound ONNX models around a deconv: float, and quantised in QDQ form."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSIONS = {20: 8, 22: 10, 99: 11}  # the first whose key is at least the opset
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
TYPES_8 = (np.uint8, np.int8)
TYPES_16 = (np.uint16, np.int16)
BEHIND = (
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Identity",
    "Neg",
    "Bias",
    "Scale",
    "BatchNormalization",
    "Crop",
    "Deconv",
)


class Build:
    """A model that grows node by node."""

    def __init__(self, rng: Random, opset: int, rank: int) -> None:
        self.rng, self.opset, self.rank = rng, opset, rank
        self.values = np.random.default_rng(rng.getrandbits(32))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.last = "x"

    def constant(self, array: Any) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.last = f"{name}_out"
        self.nodes.append(helper.make_node(op_type, inputs, [self.last], name=name, domain=domain, **attributes))
        return self.last

    def model(self, x: onnx.ValueInfoProto, dtype: int, *others: onnx.ValueInfoProto) -> onnx.ModelProto:
        y = helper.make_tensor_value_info(self.last, dtype, [None] * (self.rank + 2))
        graph = helper.make_graph(self.nodes, "attack", [x, *others], [y], self.initializers)
        ir_version = next(found for limit, found in IR_VERSIONS.items() if limit >= self.opset)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def geometry(rng: Random, rank: int) -> dict[str, Any]:
    """Attributes of a ConvTranspose, and its kernel's sizes under ``kernel``."""
    kernel = [rng.choice((1, 2, 3, 4, 5, 7)) for _ in range(rank)]
    strides = [rng.choice((1, 2, 2, 2, 3, 4)) for _ in range(rank)]
    dilations = [rng.choice((1, 1, 1, 2, 3)) for _ in range(rank)]
    found: dict[str, Any] = {"kernel": kernel, "strides": strides, "dilations": dilations}
    reach = [dilation * (size - 1) + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    how = rng.choice(("pads", "pads", "pads", "none", "auto"))
    if how == "pads":
        found["pads"] = [rng.randrange(0, max(1, size)) // rng.choice((1, 2)) for size in (*reach, *reach)]
        found["output_padding"] = [rng.randrange(0, stride) for stride in strides]
    elif how == "auto":
        found["auto_pad"] = rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    return found


def deconv(build: Build, channels: int, dtype: Any) -> int:
    """Add a deconv; returns its output channels."""
    rng = build.rng
    attributes = geometry(rng, build.rank)
    group = rng.choice([each for each in (1, 1, 1, 2, channels) if channels % each == 0])
    outs = rng.choice((1, 1, 2, 3))
    weight = build.values.standard_normal((channels, outs, *attributes.pop("kernel"))).astype(dtype)
    inputs = [build.last, build.constant(weight)]
    if rng.random() < 0.6:
        inputs.append(build.constant(build.values.standard_normal(outs * group).astype(dtype)))
    build.add("ConvTranspose", *inputs, group=group, **attributes)
    return outs * group


def behind(build: Build, channels: int, dtype: Any) -> int:
    """Add one operator; returns the channels."""
    op_type = build.rng.choice(BEHIND)
    per_channel = (channels, *[1] * build.rank)
    if op_type == "Deconv":
        return deconv(build, channels, dtype)
    if op_type == "Bias":
        build.add("Add", build.last, build.constant(build.values.standard_normal(per_channel).astype(dtype)))
    elif op_type == "Scale":
        build.add("Mul", build.last, build.constant(build.values.random(per_channel).astype(dtype)))
    elif op_type == "BatchNormalization":
        four = [build.constant((build.values.random(channels) + 0.5).astype(dtype)) for _ in range(4)]
        build.add(op_type, build.last, *four)
    elif op_type == "Crop":
        at = [build.constant(np.array(each, np.int64)) for each in ([1], [2**31], [build.rank + 1])]
        build.add("Slice", build.last, *at)
    else:
        build.add(op_type, build.last)
    return channels


def float_model(rng: Random) -> onnx.ModelProto:
    """A model of floats: an operator or none, a deconv, and up to four operators behind it."""
    build = Build(rng, rng.choice((11, 13, 16, 17, 18, 21, 22)), rng.choice((1, 2, 2, 2, 3)))
    kind = rng.choice(FLOATS)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    channels = rng.choice((1, 2, 3, 4))
    sizes: list[int | str] = [rng.randrange(1, 8) for _ in range(build.rank)]
    shape: list[int | str] = [rng.choice((1, 1, 2, "N")), channels, *sizes]
    if rng.random() < 0.2:
        shape[2:] = [f"s{axis}" for axis in range(build.rank)]
    if rng.random() < 0.3:
        build.add(rng.choice(("Relu", "Identity", "Abs")), "x")
    channels = deconv(build, channels, dtype)
    for _ in range(rng.randrange(5)):
        channels = behind(build, channels, dtype)
    return build.model(helper.make_tensor_value_info("x", kind, shape), kind)


def foldable_model(rng: Random) -> onnx.ModelProto:
    """A deconv of floats between arithmetic with constants."""
    build = Build(rng, rng.choice((11, 13, 17, 18, 21, 22)), rng.choice((1, 2, 2, 3)))
    kind = rng.choice(FLOATS)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    channels = rng.choice((1, 2, 4))
    shape = [rng.choice((1, 2, "N")), channels, *(rng.randrange(1, 8) for _ in range(build.rank))]
    for _ in range(rng.randrange(3)):
        arithmetic(build, channels, dtype)
    channels = deconv(build, channels, dtype)
    for _ in range(rng.randrange(1, 4)):
        arithmetic(build, channels, dtype)
    if rng.random() < 0.4:
        channels = behind(build, channels, dtype)
    return build.model(helper.make_tensor_value_info("x", kind, shape), kind)


def arithmetic(build: Build, channels: int, dtype: Any) -> None:
    """Add BatchNormalization, or a Mul, Add, Sub or Div with a number or one for each channel, on either side."""
    op_type = build.rng.choice(("BatchNormalization", "Mul", "Add", "Sub", "Div"))
    if op_type == "BatchNormalization":
        four = [build.constant((build.values.random(channels) + 0.5).astype(dtype)) for _ in range(4)]
        build.add(op_type, build.last, *four)
        return
    shape = build.rng.choice(((), (1,), (channels, *[1] * build.rank), (1, channels, *[1] * build.rank)))
    operands = [build.last, build.constant((build.values.random(shape) + 0.5).astype(dtype))]
    turn = -1 if op_type != "Div" and build.rng.random() < 0.3 else 1
    build.add(op_type, *operands[::turn])


def sub_pixel_model(rng: Random) -> onnx.ModelProto:
    """A convolution whose channels become pixels, and up to two operators behind it."""
    build = Build(rng, rng.choice((11, 13, 17, 18, 21)), 2)
    block, channels, outs = rng.choice((2, 2, 3)), rng.choice((1, 2, 4)), rng.choice((1, 2, 3))
    convolution(build, channels, outs * block**2, np.float32, [1, 1])
    if rng.random() < 0.3:
        build.add(rng.choice(("Relu", "LeakyRelu")), build.last)
    build.add("DepthToSpace", build.last, blocksize=block, mode=rng.choice(("DCR", "CRD")))
    for _ in range(rng.randrange(3)):
        outs = behind(build, outs, np.float32)
    sizes = rng.choice(([rng.randrange(3, 9), rng.randrange(3, 9)], ["h", "w"]))
    return build.model(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *sizes]), TensorProto.FLOAT)


def convolution(build: Build, channels: int, outs: int, dtype: Any, strides: list[int]) -> None:
    """Add a convolution."""
    rng = build.rng
    kernel = [rng.choice((1, 2, 3, 5)) for _ in range(build.rank)]
    dilations = [rng.choice((1, 1, 2)) for _ in range(build.rank)]
    group = rng.choice([each for each in (1, 1, 2) if channels % each == outs % each == 0])
    reach = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
    pads = [rng.randint(0, each) for each in (*reach, *reach)]
    weight = build.values.standard_normal((outs, channels // group, *kernel)).astype(dtype)
    inputs = [build.last, build.constant(weight)]
    if rng.random() < 0.6:
        inputs.append(build.constant(build.values.standard_normal(outs).astype(dtype)))
    build.add("Conv", *inputs, group=group, dilations=dilations, pads=pads, strides=strides)


def signal_model(rng: Random) -> onnx.ModelProto:
    """Convolutions, deconvs and element-wise operators of a signal of open length."""
    build = Build(rng, rng.choice((13, 17, 18, 21)), 1)
    first = channels = rng.choice((1, 2, 4))
    for place in range(rng.randrange(1, 4)):
        if place and rng.random() < 0.5:
            convolution(build, channels, channels, np.float32, [rng.choice((1, 1, 2))])
        else:
            channels = deconv(build, channels, np.float32)
        if rng.random() < 0.6:
            channels = behind(build, channels, np.float32)
    return build.model(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, first, "T"]), TensorProto.FLOAT)


def quantised_model(rng: Random) -> onnx.ModelProto:
    """A deconv between DequantizeLinear and QuantizeLinear: all types, scales and opsets from 10 to 23."""
    build = Build(rng, rng.randrange(10, 24), rng.choice((1, 2, 2, 2)))
    wide = rng.random() < 0.2
    x_type = rng.choice(TYPES_16 if wide else TYPES_8)
    w_type = rng.choice(TYPES_8)
    domain = "com.microsoft" if wide and build.opset < 21 else rng.choice(("", "", "", "com.microsoft"))
    channels, outs = rng.choice((1, 2, 3, 4)), rng.choice((1, 2, 3))
    attributes = geometry(rng, build.rank)
    weight = build.values.integers(*_limits(w_type), (channels, outs, *attributes.pop("kernel")), w_type, endpoint=True)
    per_channel = build.opset >= 13 and rng.random() < 0.5
    scale = (build.values.random(outs if per_channel else ()) * 0.02 + 0.001).astype(np.float32)
    zero = np.zeros(scale.shape, w_type)
    axis = {"axis": 1} if per_channel else {}
    real = build.add("DequantizeLinear", "x", *_parameters(build, x_type), domain=domain)
    stored = build.constant(weight)
    kernel = build.add("DequantizeLinear", stored, build.constant(scale), build.constant(zero), domain=domain, **axis)
    inputs = [real, kernel]
    if rng.random() < 0.5:
        inputs.append(build.constant(build.values.standard_normal(outs).astype(np.float32)))
    build.add("ConvTranspose", *inputs, **attributes)
    if rng.random() < 0.5:
        build.add(rng.choice(("Relu", "LeakyRelu", "Sigmoid", "Identity")), build.last)
    build.add("QuantizeLinear", build.last, *_parameters(build, x_type), domain=domain)
    sizes = [rng.randrange(1, 7) for _ in range(build.rank)]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(x_type))
    return build.model(helper.make_tensor_value_info("x", kind, [rng.choice((1, 2)), channels, *sizes]), kind)


def _limits(dtype: Any) -> tuple[int, int]:
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def _parameters(build: Build, dtype: Any) -> tuple[str, str]:
    """Scale and zero-point of a map."""
    low, high = _limits(dtype)
    scale = build.constant(np.float32(build.rng.uniform(0.005, 0.1)))
    return scale, build.constant(np.array(build.rng.choice((low, high, (low + high) // 2, 0)), dtype))
