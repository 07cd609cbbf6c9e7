"""Small ONNX models for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.deconv.weights import Array


def deconv_model(
    in_shape: tuple[int | str | None, ...] = (1, 4, 5, 6),
    kernel: Array | None = None,
    *,
    bias: bool = True,
    opset: int = 17,
    ir_version: int = 8,
    dtype: int = TensorProto.FLOAT,
    then: tuple[str, ...] = (),
    **attributes: Any,
) -> onnx.ModelProto:
    """One ConvTranspose named ``up``, input ``x``, output ``y``, with element-wise operators behind it."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 3, 4, 4)).astype(np.float32) if kernel is None else kernel
    weights = {"w": kernel}
    if bias:
        weights["b"] = rng.standard_normal(kernel.shape[1] * attributes.get("group", 1)).astype(np.float32)
    names = ["y", *(f"t{number}" for number in range(len(then)))][::-1]
    nodes = [helper.make_node("ConvTranspose", ["x", *weights], [names[0]], name="up", **attributes)]
    for number, op_type in enumerate(then):
        nodes.append(helper.make_node(op_type, [names[number]], [names[number + 1]], name=f"{op_type}{number}"))
    tensors = [numpy_helper.from_array(_cast(array, dtype), name) for name, array in weights.items()]
    x = helper.make_tensor_value_info("x", dtype, in_shape)
    y = helper.make_tensor_value_info("y", dtype, [None] * len(in_shape))
    graph = helper.make_graph(nodes, "graph", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _cast(array: Array, dtype: int) -> Array:
    return array.astype(helper.tensor_dtype_to_np_dtype(dtype))


def op_types(model: onnx.ModelProto) -> list[str]:
    """Operators of the main graph, in order."""
    return [node.op_type for node in model.graph.node]
