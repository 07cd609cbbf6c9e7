"""Small ONNX models, each for one thing that a conversion must get right. Built with ``onnx.helper`` alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Shape = Sequence[int | str]
Nodes = list[onnx.NodeProto]


def _random(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def _model(
    nodes: Nodes,
    in_shape: Shape,
    constants: Mapping[str, Array],
    *,
    opset: int = 13,
    outputs: Sequence[str] = ("y",),
    dtype: int = TensorProto.FLOAT,
    as_inputs: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Input ``x``; outputs have the input's rank and open sizes."""
    inputs = [helper.make_tensor_value_info("x", dtype, in_shape)]
    inputs += [helper.make_tensor_value_info(name, dtype, constants[name].shape) for name in as_inputs]
    found = [helper.make_tensor_value_info(name, dtype, [None] * len(in_shape)) for name in outputs]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items() if name not in as_inputs]
    graph = helper.make_graph(nodes, "graph", inputs, found, stored)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(each.domain, 1) for each in functions)]
    ir_version = 10 if opset > 21 else 8
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=functions)


def _deconv(
    in_shape: Shape,
    kernel: Array,
    *,
    bias: bool = True,
    after: Nodes | None = None,
    more: Mapping[str, Array] | None = None,
    dtype: type[np.generic] = np.float32,
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """One ConvTranspose called ``up``, and the nodes ``after`` it, which read ``d`` and write ``y``."""
    stated = dict(attributes or {})
    constants = {"w": kernel.astype(dtype)}
    if bias:
        constants["b"] = _random(kernel.shape[1] * stated.get("group", 1)).astype(dtype)
    node = helper.make_node("ConvTranspose", ["x", *constants], ["d" if after else "y"], name="up", **stated)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return _model([node, *(after or [])], in_shape, {**constants, **(more or {})}, dtype=element, **options)


_PLANE: Shape = (1, 4, 5, 6)
_KERNEL = _random(4, 3, 4, 3)
_TWICE: dict[str, Any] = {"strides": [2, 2], "pads": [1, 0, 1, 1]}
_plane = partial(_deconv, _PLANE, _KERNEL, attributes=_TWICE)
_node = helper.make_node


def _batch_norm() -> onnx.ModelProto:
    names = ["scale", "shift", "mean", "variance"]
    constants = {name: np.abs(_random(3)) + np.float32(number) for number, name in enumerate(names)}
    norm = _node("BatchNormalization", ["d", *names], ["n"], name="norm")
    return _plane(after=[norm, _node("LeakyRelu", ["n"], ["y"], alpha=0.2)], more=constants)


def _crop() -> onnx.ModelProto:
    bounds = {"starts": [1, 0], "ends": [-1, 7], "axes": [2, 3]}
    nodes = [_node("Slice", ["d", *bounds], ["y"], name="crop")]
    return _plane(after=nodes, more={name: np.array(value, np.int64) for name, value in bounds.items()})


def _chain() -> onnx.ModelProto:
    constants = {"w0": _random(4, 6, 4, 4), "w1": _random(6, 2, 3, 3), "b1": _random(2)}
    nodes = [
        _node("ConvTranspose", ["x", "w0"], ["a"], name="first", strides=[2, 2], pads=[1, 1, 1, 1]),
        _node("Relu", ["a"], ["r"]),
        _node("ConvTranspose", ["r", "w1", "b1"], ["c"], name="second", strides=[2, 2], output_padding=[1, 1]),
        _node("Tanh", ["c"], ["y"]),
    ]
    return _model(nodes, _PLANE, constants)


def _shared() -> onnx.ModelProto:
    nodes = [_node("ConvTranspose", [name, "w"], [name + "u"], name=name + "up", **_TWICE) for name in ("x", "n")]
    nodes = [_node("Neg", ["x"], ["n"]), *nodes, _node("Add", ["xu", "nu"], ["y"])]
    return _model(nodes, _PLANE, {"w": _KERNEL})


def _two_outputs() -> onnx.ModelProto:
    return _plane(after=[_node("Relu", ["d"], ["y"]), _node("Sigmoid", ["d"], ["z"])], outputs=("y", "z"))


def _if_body() -> onnx.ModelProto:
    output = [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
    deconv = helper.make_graph([_node("ConvTranspose", ["x", "w"], ["t"], name="inner", **_TWICE)], "then", [], output)
    output = [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
    other = helper.make_graph([_node("ConvTranspose", ["x", "w"], ["t"], name="other", **_TWICE)], "else", [], output)
    node = _node("If", ["condition"], ["y"], name="choice", then_branch=deconv, else_branch=other)
    return _model([node], _PLANE, {"w": _KERNEL, "condition": np.array(True)})


def _function() -> onnx.ModelProto:
    inner = [
        _node("Constant", [], ["k"], value=numpy_helper.from_array(_KERNEL)),
        _node("ConvTranspose", ["a", "k"], ["d"], name="inner", **_TWICE),
        _node("Relu", ["d"], ["o"]),
    ]
    function = helper.make_function("own", "Up", ["a"], ["o"], inner, [helper.make_opsetid("", 13)])
    node = _node("Up", ["x"], ["y"], name="call", domain="own")
    return _model([node], _PLANE, {}, functions=[function])


def _qdq(
    per_channel: bool, activation: type[np.generic] = np.uint8, *, after: str = "", seed: int = 7
) -> onnx.ModelProto:
    """QDQ around a ConvTranspose with int8 weights, int32 bias and unequal zero-points."""
    rng = np.random.default_rng(seed)
    channels = 3 if per_channel else 1
    scales = rng.uniform(0.01, 0.02, channels).astype(np.float32)
    zero = np.zeros(channels, np.int8)
    constants: dict[str, Array] = {
        "xs": np.array(0.05, np.float32),
        "xz": np.array(17 if activation is np.uint8 else -9, activation),
        "ys": np.array(0.2, np.float32),
        "yz": np.array(101 if activation is np.uint8 else 5, activation),
        "w": rng.integers(-63, 64, _KERNEL.shape).astype(np.int8),
        "ws": scales if per_channel else scales[0],
        "wz": zero if per_channel else zero[0],
        "b": rng.integers(-900, 900, 3).astype(np.int32),
    }
    constants["bs"] = constants["xs"] * constants["ws"]
    axis: dict[str, Any] = {"axis": 1} if per_channel else {}
    own: dict[str, Any] = {"axis": 0} if per_channel else {}
    last = "r" if after else "d"
    nodes = [
        _node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        _node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        _node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], **axis),
        _node("DequantizeLinear", ["b", "bs"], ["bd"], **own),
        _node("ConvTranspose", ["xd", "wd", "bd"], ["d"], name="up", **_TWICE),
        *([_node(after, ["d"], ["r"])] if after else []),
        _node("QuantizeLinear", [last, "ys", "yz"], ["yq"]),
        _node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return _model(nodes, _PLANE, constants)


def _bilinear() -> onnx.ModelProto:
    vector = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    kernel = np.broadcast_to(np.outer(vector, vector), (4, 1, 4, 4))
    attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 4}
    return _deconv(_PLANE, np.ascontiguousarray(kernel), bias=False, attributes=attributes)


def _diagonal() -> onnx.ModelProto:
    kernel = np.zeros((4, 4, 4, 3), np.float32)
    kernel[range(4), range(4)] = _random(4, 4, 3)
    return _deconv(_PLANE, kernel, attributes=_TWICE)


def _contradiction() -> onnx.ModelProto:
    return _deconv((1, 5, 5, 6), _KERNEL, attributes=_TWICE)


def _wrong_rank() -> onnx.ModelProto:
    return _deconv(_PLANE, _KERNEL, attributes={"strides": [2, 2, 2]})


def _spread(**attributes: Any) -> Callable[[], onnx.ModelProto]:
    return partial(_deconv, _PLANE, _KERNEL, attributes={"strides": [2, 2], **attributes})


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "plane": _plane,
    "line": partial(_deconv, (1, 3, 9), _random(3, 2, 5), attributes={"strides": [3], "pads": [1, 2]}),
    "volume": partial(_deconv, (1, 2, 3, 4, 5), _random(2, 2, 3, 2, 3), attributes={"strides": [2, 1, 2]}),
    "groups": partial(_deconv, _PLANE, _random(4, 2, 4, 3), attributes={**_TWICE, "group": 2}),
    "depthwise": partial(_deconv, _PLANE, _random(4, 1, 3, 4), attributes={**_TWICE, "group": 4}),
    "dilation": _spread(dilations=[3, 2]),
    "dilation_shares_a_factor": _spread(dilations=[2, 4]),
    "output_padding": _spread(output_padding=[1, 1], pads=[1, 1, 1, 1]),
    "same_upper": _spread(auto_pad="SAME_UPPER"),
    "same_lower": _spread(auto_pad="SAME_LOWER"),
    "valid": _spread(auto_pad="VALID"),
    "output_shape": _spread(output_shape=[10, 13]),
    "output_shape_same_upper": _spread(output_shape=[10, 11], auto_pad="SAME_UPPER"),
    "uneven": partial(_deconv, _PLANE, _random(4, 3, 5, 2), attributes={"strides": [3, 2], "pads": [2, 0, 1, 1]}),
    "kernel_below_stride": partial(_deconv, _PLANE, _random(4, 3, 2, 1), attributes={"strides": [3, 2]}),
    "stride_one": partial(_deconv, _PLANE, _random(4, 3, 3, 2), attributes={"pads": [1, 1, 1, 0]}),
    "large": partial(_deconv, (2, 32, 24, 32), _random(32, 16, 3, 3), attributes={**_TWICE, "output_padding": [1, 1]}),
    "opset_7": partial(_plane, opset=7),
    "opset_11": partial(_plane, opset=11),
    "opset_22": partial(_plane, opset=22),
    "no_bias": partial(_plane, bias=False),
    "relu": partial(_plane, after=[_node("Relu", ["d"], ["y"], name="relu")]),
    "batch_norm": _batch_norm,
    "crop": _crop,
    "chain": _chain,
    "shared_weights": _shared,
    "two_outputs": _two_outputs,
    "if_body": _if_body,
    "function": _function,
    "float16": partial(_plane, dtype=np.float16),
    "float64": partial(_plane, dtype=np.float64),
    "open_sizes": partial(_deconv, ("n", 4, "h", "w"), _KERNEL, attributes=_TWICE),
    "weights_as_input": partial(_plane, as_inputs=["w"]),
    "bilinear": _bilinear,
    "diagonal": _diagonal,
    "qdq_per_tensor": partial(_qdq, False),
    "qdq_per_channel": partial(_qdq, True, after="Relu"),
    "qdq_int8": partial(_qdq, True, np.int8),
    "qdq_other_weights": partial(_qdq, False, seed=8),
    "no_deconv": lambda: _model([_node("Relu", ["x"], ["y"])], _PLANE, {}),
    "contradiction": _contradiction,
    "wrong_rank": _wrong_rank,
}
