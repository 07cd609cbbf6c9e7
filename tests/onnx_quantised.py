"""Small QDQ models with one ConvTranspose, written by hand so that every choice of a quantiser can be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.spec import Deconv
from splitdeconv.weights import Array, Quantisation, Weights

OPSET, IR_VERSION = 17, 8
_ELEMENTS = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
LARGEST_SUM = 2**23  # float32 holds whole numbers up to 2²⁴ exactly, so float kernels between Q and DQ are exact too


def random_weights(
    deconv: Deconv, seed: int, *, w_zero: bool = False, real_scales: bool = False, bits: int = 7
) -> Weights:
    """Stored weights of ``bits`` bits, and scales: powers of two unless ``real_scales``.

    With int8 weights of 7 bits no processor saturates two products of uint8 × int8.

    As many weights as keep every sum below ``LARGEST_SUM`` differ from their zero-point.
    """
    quant = deconv.quant
    assert quant is not None
    rng = np.random.default_rng(seed)
    low, high = np.iinfo(quant.weight).min, np.iinfo(quant.weight).max
    per_group = deconv.out_channels // deconv.groups
    shape = (per_group,) if quant.per_channel else ()
    if quant.weight == "int8":
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zero = int(rng.integers(low // 2, high // 2 + 1)) if w_zero else 0
    products = deconv.in_channels // deconv.groups * int(np.prod([axis.kernel for axis in deconv.axes]))
    share = min(1.0, LARGEST_SUM / (255 * 2 ** (bits - 1) * products))
    reach = 2 ** (bits - 1) - 1
    stored = zero + rng.integers(-reach, reach + 1, deconv.kernel_shape)
    kernel = np.clip(np.where(rng.random(deconv.kernel_shape) < share, stored, zero), low, high).astype(quant.weight)
    exponents = rng.integers(-9, -5, shape)
    jitter = rng.uniform(0.5, 1.0, (3, *shape)) if real_scales else np.ones((3, *shape))
    low_x, high_x = np.iinfo(quant.activation).min, np.iinfo(quant.activation).max
    values = Quantisation(
        x_type=quant.activation,
        x_scale=np.float32(2.0**-5 * jitter[0].flat[0]),
        x_zero=int(rng.integers(low_x, high_x + 1)),
        w_scale=np.asarray(2.0**exponents * jitter[1], np.float32),
        w_zero=np.full(shape, zero, np.int32),
        y_type=quant.activation,
        y_scale=np.float32(2.0 ** rng.integers(-4, 1) * jitter[2].flat[0]),
        y_zero=int(rng.integers(low_x, high_x + 1)),
    )
    bias = rng.integers(-3000, 3000, deconv.out_channels).astype(np.int32) if deconv.has_bias else None
    return Weights(kernel, bias, values)


def random_input(deconv: Deconv, seed: int) -> Array:
    """Stored input over the whole range of its type."""
    assert deconv.quant is not None
    limits = np.iinfo(deconv.quant.activation)
    shape = (deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(deconv.quant.activation)


def qdq_model(deconv: Deconv, weights: Weights, *, epilogue: tuple[str, ...] = (), float_bias: bool = False) -> Any:
    """DequantizeLinear → ConvTranspose → epilogue → QuantizeLinear, from stored ``x`` to stored ``y``."""
    quant = weights.quant
    assert quant is not None
    constants = {
        "x_scale": quant.x_scale,
        "x_zero": np.asarray(quant.x_zero, quant.x_type),
        "w": weights.kernel,
        "w_scale": quant.w_scale,
        "w_zero": quant.w_zero.astype(weights.kernel.dtype),
        "y_scale": quant.y_scale,
        "y_zero": np.asarray(quant.y_zero, quant.y_type),
    }
    per_channel = {"axis": 1} if quant.w_scale.ndim else {}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_real"], "dq_x"),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_real"], "dq_w", **per_channel),
    ]
    inputs = ["x_real", "w_real"]
    if weights.bias is not None:
        unit = quant.bias_scale(deconv.out_channels)
        inputs.append("b_real")
        if float_bias:
            constants["b_real"] = (weights.bias * unit).astype(np.float32)
        else:
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
    inputs = [f"v{number}"]
    if operator == "Clip":
        constants |= {"low": np.float32(-0.3), "high": np.float32(1.7)}
        inputs += ["low", "high"]
    return helper.make_node(operator, inputs, [f"v{number + 1}"], f"{operator}_{number}")
