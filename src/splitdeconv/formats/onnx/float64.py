"""A whole ONNX model in float64: ONNX's reference evaluator, with the slow operators computed by NumPy here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import elements
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.onnx.geometry import axes_from, conv_axes
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, places
from splitdeconv.formats.onnx.kept import to_proto
from splitdeconv.formats.onnx.shapes import Shapes, infer

Deconvolve = Callable[[Array, Weights, Deconv], Array]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_LARGEST = 2**31 - 2**24  # bytes of the float64 model; protobuf takes no more
_MANY = 10_000  # operators, each of which costs the reference evaluator a fraction of a millisecond
_AFFORDABLE = 50_000_000  # elements read, over all taps of all convolutions: a few seconds
# Written as Python loops over elements in the reference evaluator: minutes for maps of ordinary size.
_SLOW = frozenset(
    ["AveragePool", "GridSample", "GRU", "LpPool", "LSTM", "MaxRoiPool", "Resize", "RNN", "RoiAlign", "Upsample"]
)
_PATIENCE = 20  # times as much where nothing else computes the outputs: a minute or two
_SLOW_ELEMENTS = 1_000_000  # of the outputs of slow operators then, each tens of microseconds
_EPSILON = 1e-5  # BatchNormalization's default
_RESHAPE_INPUT = 5  # opset from which on Reshape takes its shape as an input
_QUANTISED = frozenset(["DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QuantizeLinear"])


def refuse(model: ir.Model, in_shapes: Mapping[str, tuple[int, ...]], *, patient: bool = False) -> str | None:
    """Why the model cannot be evaluated in float64 in a few seconds, or minutes where that is ``patient``; or None."""
    size = 0
    for graph in model.graphs():
        size += sum(2 * value.const_value.nbytes for value in graph.initializers.values() if value.const_value)
    if size > _LARGEST:
        return "its weights do not fit into one message in float64"
    if sum(1 for _ in places(model)) > _MANY:
        return f"it has more than {_MANY:,} operators"
    shapes = infer(model, in_shapes)
    slow = 0
    own = {(function.domain, function.name) for function in model.functions.values()}
    for place in places(model):
        if (place.node.domain, place.node.op_type) in own:
            continue
        if place.node.domain not in STANDARD_DOMAINS:
            return f"operator {place.node.domain}.{place.node.op_type} is not a standard one"
        if place.node.op_type in _QUANTISED:
            return f"{place.node.op_type} rounds, which float64 would move"
        if place.node.op_type in _SLOW:
            slow += elements(shapes.by_name.get(place.node.outputs[0].name or "", ()))
        if slow > (_SLOW_ELEMENTS if patient else 0):
            return f"the reference evaluator takes too long for {place.node.op_type}"
    if _work(model, shapes) > _AFFORDABLE * (_PATIENCE if patient else 1):
        return f"it is too large for an evaluation in float64 of a few {'minutes' if patient else 'seconds'}"
    return None


def _work(model: ir.Model, shapes: Shapes) -> int:
    """Map elements times taps, over all convolutions whose sizes are known."""
    total = 0
    for place in places(model):
        if place.node.op_type in ("Conv", "ConvTranspose") and len(place.node.inputs) > 1:
            x, w = (shapes.by_name.get(value.name or "", ()) if value else () for value in place.node.inputs[:2])
            y = shapes.by_name.get(place.node.outputs[0].name or "", ())
            total += (elements(x) + elements(y)) * elements(w[2:])
    return total


def evaluate(model: ir.Model, feeds: Mapping[str, Array], deconv: Deconvolve = reference.deconv) -> dict[str, Array]:
    """All outputs, computed in float64.

    Args:
        model: of the opset and sizes that it states.
        feeds: every input by name; floats are widened.
        deconv: computes each ConvTranspose from its input, its weights and its geometry.

    Raises:
        Exception: whatever the evaluator meets that it does not know.
    """
    proto = to_proto(model)
    _to_double(proto.graph)
    for function in proto.functions:
        for node in function.node:
            _node_to_double(node)
    # ReferenceEvaluator finds an operator's replacement by the name of its class.
    by_this: type[OpRun] = type("ConvTranspose", (ConvTranspose,), {"deconv": staticmethod(deconv)})
    replaced: list[type[OpRun]] = [BatchNormalization, Conv, by_this, MaxPool]
    if model.opset_imports.get("", 0) < _RESHAPE_INPUT:
        replaced.append(Reshape)
    evaluator = ReferenceEvaluator(proto, new_ops=replaced)
    wide = {name: array.astype(np.float64) if _is_float(array) else array for name, array in feeds.items()}
    names = [output.name for output in proto.graph.output]
    with np.errstate(all="ignore"):  # NaN and infinity are results like others
        return dict(zip(names, evaluator.run(None, wide), strict=True))


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _to_double(graph: onnx.GraphProto) -> None:
    """Turn every stated float type of a graph to double."""
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    for tensor in graph.initializer:
        _tensor_to_double(tensor)
    for node in graph.node:
        _node_to_double(node)


def _node_to_double(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _tensor_to_double(attribute.t)
        if attribute.HasField("g"):
            _to_double(attribute.g)
        if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
            attribute.i = TensorProto.DOUBLE
    if node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name in ("value_float", "value_floats"):
                numbers = np.asarray(attribute.f if attribute.name == "value_float" else attribute.floats, np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(numbers)))


def _tensor_to_double(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        wide = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))


class Conv(OpRun):
    """Conv, one tap at a time."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        rank, groups = x.ndim - 2, attributes.get("group") or 1
        axes = conv_axes(attributes, w.shape[2:], x.shape[2:])
        padded = np.pad(x, [(0, 0), (0, 0), *((axis.pad_begin, axis.pad_end) for axis in axes)])
        grouped = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
        filters = w.reshape(groups, -1, *w.shape[1:])
        out = [axis.out_size for axis in axes]
        y = np.zeros((x.shape[0], groups, filters.shape[1], *out), x.dtype)
        for taps in product(*(range(axis.kernel) for axis in axes)):
            places = tuple(
                slice(first := tap * axis.dilation, first + (axis.out_size - 1) * axis.stride + 1, axis.stride)
                for tap, axis in zip(taps, axes, strict=True)
            )
            index: Any = (slice(None),) * 3
            y += reference.channel_products(filters[index + taps], grouped[index + places])
        y = y.reshape(x.shape[0], -1, *out)
        return (y if b is None else y + b.reshape(-1, *(1,) * rank),)


class ConvTranspose(OpRun):
    """ConvTranspose by its definition, or by what stands in for it."""

    op_domain = ""
    deconv: Deconvolve

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups = attributes.get("group") or 1
        axes = axes_from(attributes, w.shape[2:], x.shape[2:])
        spec = Deconv(axes, w.shape[0], w.shape[1] * groups, groups, x.shape[0], has_bias=b is not None)
        return (self.deconv(x, Weights(w, b), spec),)


class BatchNormalization(OpRun):
    """BatchNormalization of a trained model; the evaluator's own for opsets 7 to 13 takes the batch's statistics."""

    op_domain = ""

    def _run(self, x: Array, *parameters: Array, **attributes: Any) -> tuple[Array]:
        if attributes.get("training_mode") or len([name for name in self.onnx_node.output if name]) > 1:
            raise NotImplementedError("BatchNormalization in training mode")
        scale, bias, mean, variance = (each.reshape(-1, *(1,) * (x.ndim - 2)) for each in parameters)
        epsilon = attributes.get("epsilon")
        root = np.sqrt(variance + (_EPSILON if epsilon is None else epsilon))
        return ((x - mean) / root * scale + bias,)


class MaxPool(OpRun):
    """MaxPool over explicit pads, by sliding windows."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        kernel = list(attributes["kernel_shape"])
        rank = len(kernel)
        dilations = attributes.get("dilations") or [1] * rank
        plain = (attributes.get("auto_pad") or "NOTSET") in ("NOTSET", "VALID") and not attributes.get("ceil_mode")
        if not plain or max(dilations) > 1:
            raise NotImplementedError("MaxPool with automatic pads, ceil_mode or dilations")
        strides = attributes.get("strides") or [1] * rank
        pads = attributes.get("pads") or [0] * (2 * rank)
        widths = [(0, 0), (0, 0), *((pads[n], pads[rank + n]) for n in range(rank))]
        padded = np.pad(x, widths, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=tuple(range(2, 2 + rank)))
        steps: Any = (slice(None), slice(None), *(slice(None, None, stride) for stride in strides))
        return (windows[steps].max(axis=tuple(range(-rank, 0))),)


class Reshape(OpRun):
    """Reshape of opsets 1 to 4, whose shape is an attribute."""

    op_domain = ""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        stated = attributes["shape"]
        return (x.reshape([size or x.shape[axis] for axis, size in enumerate(stated)]),)
