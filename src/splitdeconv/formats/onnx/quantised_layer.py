"""A single quantised layer as a QDQ model, as quantisers write it: for benchmarks of layer lists, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights

OPSET, IR_VERSION = 17, 8
CLIP_BOUNDS = (-0.3, 1.7)  # of a Clip in an epilogue
_ELEMENTS = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
_SPREAD = 4  # standard deviations that a quantiser's range covers


def trained_like_weights(deconv: Deconv, bits: int, seed: int = 0) -> Weights:
    """Stored values such as a quantiser finds in a trained layer that a Relu follows.

    Normally distributed weights, each channel's largest at the end of ``bits`` bits; the output's zero-point at the
    lower end of its range, where the quantiser puts it for values that are never negative.
    """
    quant = deconv.quant
    assert quant is not None, "the layer is quantised"
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal(deconv.kernel_shape)
    axes = (0, *range(2, kernel.ndim)) if quant.per_channel else None
    largest = np.abs(kernel).max(axis=axes, keepdims=True)
    zero = 128 if quant.weight == "uint8" else 0
    stored = np.rint(kernel / largest * (2 ** (bits - 1) - 1)).astype(np.int32)
    scale = (largest / (2 ** (bits - 1) - 1)).astype(np.float32)
    products = deconv.in_channels // deconv.groups * np.prod([axis.kernel / axis.stride for axis in deconv.axes])
    limits = np.iinfo(quant.activation)
    values = Quantisation(
        x_type=quant.activation,
        x_scale=np.float32(_SPREAD / 255),
        x_zero=int(limits.min),
        w_scale=scale.reshape(-1 if quant.per_channel else ()),
        w_zero=np.full(scale.size if quant.per_channel else (), zero, np.int32),
        y_type=quant.activation,
        y_scale=np.float32(_SPREAD * _SPREAD / 2 * np.sqrt(products) / 255),
        y_zero=int(limits.min),
    )
    bias = rng.integers(-2000, 2001, deconv.out_channels).astype(np.int32) if deconv.has_bias else None
    return Weights((stored + zero).astype(quant.weight), bias, values)


def qdq_model(deconv: Deconv, weights: Weights, *, epilogue: Sequence[str] = (), float_bias: bool = False) -> Any:
    """DequantizeLinear → ConvTranspose → epilogue → QuantizeLinear, from stored ``x`` to stored ``y``."""
    quant = weights.quant
    assert quant is not None, "quantised weights have their scales"
    constants: dict[str, Array] = {
        "x_scale": np.asarray(quant.x_scale),
        "x_zero": np.asarray(quant.x_zero, quant.x_type),
        "w": weights.kernel,
        "w_scale": quant.w_scale,
        "w_zero": quant.w_zero.astype(weights.kernel.dtype),
        "y_scale": np.asarray(quant.y_scale),
        "y_zero": np.asarray(quant.y_zero, quant.y_type),
    }
    per_channel: dict[str, Any] = {"axis": quant.w_axis} if quant.w_scale.ndim else {}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_real"], "dq_x"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_real"], "dq_w", **per_channel),
    ]
    inputs = ["x_real", "w_real"]
    if weights.bias is not None:
        inputs.append("b_real")
        if weights.bias.dtype.kind == "f":
            constants["b_real"] = weights.bias
        elif float_bias:
            constants["b_real"] = (weights.bias * quant.bias_scale(deconv.out_channels)).astype(np.float32)
        else:
            unit = quant.bias_scale(deconv.out_channels)
            constants |= {"b": weights.bias, "b_scale": unit, "b_zero": np.zeros(unit.shape, np.int32)}
            nodes.append(helper.make_node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_real"], "dq_b", axis=0))
    nodes.append(helper.make_node("ConvTranspose", inputs, ["v0"], "deconv", **_attributes(deconv)))
    for number, operator in enumerate(epilogue):
        nodes.append(_element_wise(operator, number, constants))
    last = f"v{len(epilogue)}"
    nodes.append(helper.make_node("QuantizeLinear", [last, "y_scale", "y_zero"], ["y"], "q_y"))
    shape = (deconv.batch, deconv.in_channels, *deconv.in_sizes)
    out_shape = (deconv.batch, deconv.out_channels, *deconv.out_sizes)
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", _ELEMENTS[quant.x_type], shape)],
        [helper.make_tensor_value_info("y", _ELEMENTS[quant.y_type], out_shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _attributes(deconv: Deconv) -> dict[str, Any]:
    axes = deconv.axes
    return {
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [*(axis.pad_begin for axis in axes), *(axis.pad_end for axis in axes)],
        "output_padding": [axis.output_pad for axis in axes],
        "group": deconv.groups,
    }


def _element_wise(operator: str, number: int, constants: dict[str, Array]) -> onnx.NodeProto:
    """One operator of the epilogue; the bounds of a Clip go to ``constants``."""
    inputs = [f"v{number}"]
    if operator == "Clip":
        constants |= {
            name: np.asarray(bound, np.float32) for name, bound in zip(("low", "high"), CLIP_BOUNDS, strict=True)
        }
        inputs += ["low", "high"]
    return helper.make_node(operator, inputs, [f"v{number + 1}"], f"{operator}_{number}")
