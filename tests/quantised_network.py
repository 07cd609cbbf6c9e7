"""A small float network for quantisers: deconvs behind a convolution, a skip connection and a residual sum."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 3, 10, 8)
KERNELS = {  # deconv → its kernel, IOHW
    "up_relu": (8, 6, 4, 4),
    "up_plain": (8, 6, 4, 4),
    "up_skip": (12, 4, 2, 2),
    "up_residual": (4, 4, 3, 3),
    "up_out": (4, 2, 4, 4),
}


def network(opset: int = 17, *, bias: bool = True) -> onnx.ModelProto:
    """Relu, nothing, Tanh, a residual sum and Tanh behind its deconvs; up_relu and up_plain share their weights."""
    rng = np.random.default_rng(0)
    weights = {"w_conv": _drawn(rng, 8, 3, 3, 3), "b_conv": _drawn(rng, 8)}
    for name, kernel in KERNELS.items():
        if name != "up_plain":
            weights |= {f"w_{name}": _drawn(rng, *kernel)} | ({f"b_{name}": _drawn(rng, kernel[1])} if bias else {})
    nodes = [
        helper.make_node("Conv", ["x", "w_conv", "b_conv"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["c_relu"], "conv_relu"),
        _deconv("up_relu", "c_relu", bias, stride=2, pad=1),
        helper.make_node("Relu", ["up_relu_y"], ["r"], "relu"),
        _deconv("up_plain", "c_relu", bias, stride=2, pad=1, weights="up_relu"),
        helper.make_node("Concat", ["r", "up_plain_y"], ["cat"], "cat", axis=1),
        _deconv("up_skip", "cat", bias, stride=2, pad=0),
        helper.make_node("Tanh", ["up_skip_y"], ["t"], "tanh"),
        _deconv("up_residual", "t", bias, stride=1, pad=1),
        helper.make_node("Add", ["t", "up_residual_y"], ["sum"], "add"),
        _deconv("up_out", "sum", bias, stride=2, pad=1),
        helper.make_node("Tanh", ["up_out_y"], ["y"], "out"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 80, 64])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)


def sample(seed: int) -> np.ndarray:
    """An input of the network."""
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


def _drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 0.3, shape).astype(np.float32)


def _deconv(name: str, x: str, bias: bool, *, stride: int, pad: int, weights: str = "") -> onnx.NodeProto:
    values = [f"w_{weights or name}", *([f"b_{weights or name}"] if bias else [])]
    return helper.make_node(
        "ConvTranspose", [x, *values], [f"{name}_y"], name, strides=[stride, stride], pads=[pad] * 4
    )
