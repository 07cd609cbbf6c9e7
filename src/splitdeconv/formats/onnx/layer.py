"""A single float deconv, of no model in particular, as an ONNX model with random weights: for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.onnx.epilogue import BINARY, NORM, UNARY

OPSET, IR_VERSION = 17, 8
_LATER = {"Mish": 18, "Gelu": 20, "Swish": 24}  # operators of an epilogue that came after OPSET
_BOUNDS = {"Clip": (0.0, 6.0)}  # as in MobileNet's ReLU6


def layer_model(deconv: Deconv, epilogue: Sequence[str]) -> onnx.ModelProto:
    """Input ``x``, a ConvTranspose called ``deconv``, the operators of ``epilogue``, output ``y``.

    Args:
        deconv: with definite sizes; its ``dtype`` is the model's.
        epilogue: names of element-wise operators; their parameters are random, one for each channel.

    Raises:
        UsageError: a pad below 0, or an operator that is not known here.
    """
    _check(deconv, epilogue)
    rng = np.random.default_rng(0)
    initializers: dict[str, Array] = {"w": rng.standard_normal(deconv.kernel_shape) / np.sqrt(deconv.in_channels)}
    if deconv.has_bias:
        initializers["b"] = rng.standard_normal(deconv.out_channels)
    nodes = [helper.make_node("ConvTranspose", ["x", *initializers], ["y0"], name="deconv", **_attributes(deconv))]
    for number, op_type in enumerate(epilogue):
        parameters = {f"p{number}_{n}": array for n, array in enumerate(_parameters(op_type, deconv, rng))}
        initializers.update(parameters)
        nodes.append(helper.make_node(op_type, [f"y{number}", *parameters], [f"y{number + 1}"], f"{op_type}{number}"))
    nodes[-1].output[0] = "y"
    element = helper.np_dtype_to_tensor_dtype(np.dtype(deconv.dtype))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, [deconv.batch, deconv.in_channels, *deconv.in_sizes])],
        [helper.make_tensor_value_info("y", element, [deconv.batch, deconv.out_channels, *deconv.out_sizes])],
        [numpy_helper.from_array(array.astype(deconv.dtype), name) for name, array in initializers.items()],
    )
    opset = max([OPSET, *(_LATER.get(op_type, 0) for op_type in epilogue)])
    imports = [helper.make_opsetid("", opset)]
    version = max(IR_VERSION, helper.find_min_ir_version_for(imports))
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=version)
    return made


def _check(deconv: Deconv, epilogue: Sequence[str]) -> None:
    if any(axis.pad_begin < 0 or axis.pad_end < 0 for axis in deconv.axes):
        raise UsageError(f"{deconv.describe()}: ONNX has no ConvTranspose with a pad below 0")
    known = {*UNARY, *BINARY, NORM}
    for op_type in epilogue:
        if op_type not in known:
            raise UsageError(f"epilogue '{op_type}' is not known; there are {', '.join(sorted(known))}")


def _attributes(deconv: Deconv) -> dict[str, Any]:
    axes = deconv.axes
    return {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [axis.pad_begin for axis in axes] + [axis.pad_end for axis in axes],
        "output_padding": [axis.output_pad for axis in axes],
        "group": deconv.groups,
    }


def _parameters(op_type: str, deconv: Deconv, rng: np.random.Generator) -> list[Array]:
    """The constant inputs of one operator of the epilogue."""
    channels = deconv.out_channels
    if op_type in _BOUNDS:
        return [np.float64(bound).reshape(()) for bound in _BOUNDS[op_type]]
    if op_type == NORM:
        return [rng.uniform(0.5, 1.5, channels) for _ in range(4)]
    if op_type in BINARY:
        return [rng.uniform(0.5, 1.5, (channels, *(1,) * len(deconv.axes)))]
    return []
