"""A single float deconv, of no model in particular, as an ONNX model with random weights: for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, swapped_channels
from splitdeconv.deconv.written import own_pads, whole_pads
from splitdeconv.errors import UsageError
from splitdeconv.formats.onnx.epilogue import BINARY, NORM, UNARY

OPSET, IR_VERSION = 17, 8
_LATER = {"Mish": 18, "Gelu": 20, "Swish": 24}  # operators of an epilogue that came after OPSET
_SCALES = "scales"
_BOUNDS = {"Clip": (0.0, 6.0)}  # as in MobileNet's ReLU6


def layer_model(deconv: Deconv, epilogue: Sequence[str]) -> onnx.ModelProto:
    """Input ``x``, the layer with its last node called ``deconv``, the operators of ``epilogue``, output ``y``.

    Args:
        deconv: with definite sizes; its ``dtype`` is the model's.
        epilogue: names of element-wise operators; their parameters are random, one for each channel.

    Raises:
        UsageError: a pad below 0, or an operator that is not known here.
    """
    _check(deconv, epilogue)
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal(deconv.weights_shape) / np.sqrt(deconv.in_channels)}
    if deconv.has_bias:
        weights["b"] = rng.standard_normal(deconv.out_channels)
    initializers: dict[str, Array] = dict(weights)
    if deconv.written_out is None:
        nodes = [helper.make_node("ConvTranspose", ["x", *weights], ["y0"], name="deconv", **_attributes(deconv))]
    else:
        nodes, sizes = _stretching(deconv)
        initializers |= {**sizes, "w": swapped_channels(weights["w"], deconv.groups)}
        nodes.append(helper.make_node("Conv", ["u", *weights], ["y0"], name="deconv", **_conv_attributes(deconv)))
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
        [_tensor(name, array, deconv.dtype) for name, array in initializers.items()],
    )
    opset = max([OPSET, *(_LATER.get(op_type, 0) for op_type in epilogue)])
    imports = [helper.make_opsetid("", opset)]
    version = max(IR_VERSION, helper.find_min_ir_version_for(imports))
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=version)
    return made


def _check(deconv: Deconv, epilogue: Sequence[str]) -> None:
    pads = own_pads(deconv) if deconv.written_out else [(axis.pad_begin, axis.pad_end) for axis in deconv.axes]
    if min(min(pair) for pair in pads) < 0:
        kind = "Conv" if deconv.written_out else "ConvTranspose"
        raise UsageError(f"{deconv.describe()}: ONNX has no {kind} with a pad below 0")
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


def _tensor(name: str, array: Array, dtype: str) -> onnx.TensorProto:
    """A constant: sizes as they are, scales of a Resize in float32, everything else in the model's type."""
    as_is = array.dtype.kind == "i" or name == _SCALES
    return numpy_helper.from_array(array if as_is else array.astype(dtype), name)


def _stretching(deconv: Deconv) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes from ``x`` to the stretched map ``u``, and their constants."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    if written.stretch == "repeat":
        mode: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        scales = np.array([1, 1, *deconv.strides], np.float32)
        return [helper.make_node("Resize", ["x", "", _SCALES], ["u"], **mode)], {_SCALES: scales}
    return _with_zeros(deconv)


def _with_zeros(deconv: Deconv) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Zeros behind each pixel, as StyleGAN2's ``upfirdn2d`` writes them, and around the map where Conv cannot."""
    pairs = [(axis.in_size, axis.stride) for axis in deconv.axes if axis.in_size is not None]  # definite, all of them
    sizes = {
        "apart": [0, 0, *chain.from_iterable((size, 1) for size, _ in pairs)],
        "behind": [0] * (2 + 2 * len(pairs)) + [0, 0, *chain.from_iterable((0, stride - 1) for _, stride in pairs)],
        "together": [0, 0, *(size * stride for size, stride in pairs)],
    }
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["x_apart"]),
        helper.make_node("Pad", ["x_apart", "behind"], ["x_zeros"], name="zeros"),
        helper.make_node("Reshape", ["x_zeros", "together"], ["x_together"]),
    ]
    if min(*chain.from_iterable(whole_pads(deconv))) < 0:
        begin, end = zip(*whole_pads(deconv), strict=True)
        sizes["around"] = [0, 0, *begin, 0, 0, *end]
        nodes.append(helper.make_node("Pad", ["x_together", "around"], ["x_around"]))
    nodes[-1].output[0] = "u"
    return nodes, {name: np.array(values, np.int64) for name, values in sizes.items()}


def _conv_attributes(deconv: Deconv) -> dict[str, Any]:
    assert deconv.written_out is not None, "asked of written-out deconvs only"
    begin, end = zip(*whole_pads(deconv), strict=True)
    pads = [*begin, *end] if min(*begin, *end) >= 0 else [0] * 2 * len(begin)
    return {"dilations": list(deconv.written_out.dilations), "pads": pads, "group": deconv.groups}


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
