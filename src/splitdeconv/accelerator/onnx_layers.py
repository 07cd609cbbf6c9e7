"""The convolutions, matrix products and deconvs of an ONNX model, with onnx's own shape inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from splitdeconv.accelerator.layers import Layer, Network
from splitdeconv.deconv.layers import ConvAxis, Dense, PlainConv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError

KINDS = ("Conv", "QLinearConv", "ConvTranspose", "Gemm", "MatMul")


def read_onnx(path: Path, in_shapes: Mapping[str, tuple[int, ...]]) -> Network:
    """The layers of the model in ``path``, in its order; subgraphs are left out.

    Args:
        path: of the model.
        in_shapes: sizes for inputs that the model leaves open.

    Raises:
        InputError: not an ONNX model, or a size stays unknown.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own kinds
        raise InputError(f"{path}: not an ONNX model ({type(error).__name__})") from None
    return layers_of(model, str(path), path.stem, in_shapes)


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """A model with what is known of its tensors.

    Attributes:
        model: after shape inference.
        shapes: name → sizes, 0 where unknown.
        constants: name → values of initializers and constants.
        sources: name → the node that makes it.
    """

    model: Any
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Array]
    sources: Mapping[str, Any]

    def attributes(self, node: Any) -> dict[str, Any]:
        """Attributes of a node as Python values."""
        return _attributes(node)


def read_tensors(model: Any, in_shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """Shape inference, and everything that is constant."""
    inferred = shape_inference.infer_shapes(_with_shapes(model, in_shapes), data_prop=True)
    constants = {each.name: numpy_helper.to_array(each) for each in inferred.graph.initializer}
    for node in inferred.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    sources = {output: node for node in inferred.graph.node for output in node.output}
    shapes = {name: values.shape for name, values in constants.items()} | _shapes(inferred.graph)
    return Tensors(inferred, shapes, constants, sources)


def layers_of(model: Any, label: str, name: str, in_shapes: Mapping[str, tuple[int, ...]]) -> Network:
    """The layers of a model in memory; see :func:`read_onnx`."""
    inputs = [each.name for each in model.graph.input]
    for wrong in [given for given in in_shapes if given not in inputs]:
        raise InputError(f"{label}: no input is called '{wrong}'; there are {', '.join(inputs)}")
    tensors = read_tensors(model, in_shapes)
    found = [layer_of(node, tensors, label) for node in tensors.model.graph.node]
    layers = tuple(layer for layer in found if layer is not None)
    if not layers:
        raise InputError(f"{label}: no {', '.join(KINDS)}, wanted at least one")
    return Network(name, name, label, layers, (f"only {', '.join(KINDS)} are modelled",))


def _with_shapes(model: Any, in_shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A copy with the given input sizes; an open first size is a batch of 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for each in copy.graph.input:
        dims = each.type.tensor_type.shape.dim
        given = in_shapes.get(each.name)
        for number, dim in enumerate(dims):
            if given is not None and number < len(given):
                dim.dim_value = given[number]
            elif number == 0 and dim.dim_value < 1:
                dim.dim_value = 1
    if in_shapes:  # sizes that the model states for its other maps may be those of another input
        del copy.graph.value_info[:]
        for each in copy.graph.output:
            each.type.tensor_type.ClearField("shape")
    return copy


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    found = {}
    for each in [*graph.input, *graph.value_info, *graph.output]:
        dims = each.type.tensor_type.shape.dim
        found[each.name] = tuple(max(0, dim.dim_value) for dim in dims)
    return found


def _nonzero(node: Any, tensors: Tensors) -> Array | None:
    """Where a node's constant weights differ from their zero-point; None where they are not constant."""
    place, point = (3, 5) if node.op_type == "QLinearConv" else (1, None)
    name, axis = node.input[place], 0
    zero = node.input[point] if point is not None else None
    source = tensors.sources.get(name)
    if source is not None and source.op_type == "DequantizeLinear":
        name, axis = source.input[0], _attributes(source).get("axis", 1)
        zero = source.input[2] if len(source.input) > 2 else None
    if name not in tensors.constants:
        return None
    stored = tensors.constants[name]
    points = tensors.constants.get(zero, np.zeros((), stored.dtype)) if zero else np.zeros((), stored.dtype)
    shape = [1] * stored.ndim
    if points.size > 1:
        shape[axis] = -1
    found: Array = stored != points.reshape(shape)
    return found


def layer_of(node: Any, tensors: Tensors, label: str) -> Layer | None:
    """The layer that a node is, or None where it is none of ``KINDS``.

    Raises:
        InputError: a size is unknown, or the node contradicts itself.
    """
    if node.op_type not in KINDS:
        return None
    where = f"{label}: {node.op_type} '{node.name}'"
    nonzero = _nonzero(node, tensors)
    source, result = tensors.shapes.get(node.input[0], ()), tensors.shapes.get(node.output[0], ())
    if not source or not result or 0 in source or 0 in result:
        sizes = f"{source or 'unknown'} → {result or 'unknown'}"
        raise InputError(f"{where}: found sizes {sizes}, wanted all known: use --input-shape NAME=SIZE,SIZE,…")
    name = node.name or node.output[0]
    if node.op_type in ("Gemm", "MatMul"):
        ins = source[0] if _attributes(node).get("transA") else source[-1]
        return Layer(name, Dense(ins, result[-1], prod(result[:-1])), _as_rows(node, nonzero, result[-1]))
    kernel = _kernel(node, nonzero, where)
    build = _deconv if node.op_type == "ConvTranspose" else _plain_conv
    try:
        return Layer(name, build(node, source, result, kernel), nonzero)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _as_rows(node: Any, nonzero: Array | None, outs: int) -> Array | None:
    """A dense layer's mask as ``(out, in)``; None where it is not a plain matrix."""
    if nonzero is None or nonzero.ndim != 2:
        return None
    kept = node.op_type == "Gemm" and _attributes(node).get("transB")
    found = nonzero if kept else nonzero.T
    return found if found.shape[0] == outs else None


def _kernel(node: Any, nonzero: Array | None, where: str) -> tuple[int, ...]:
    if nonzero is not None:
        return nonzero.shape[2:]
    found = _attributes(node).get("kernel_shape")
    if not found:
        raise InputError(f"{where}: the kernel's size is unknown, wanted constant weights or kernel_shape")
    return tuple(found)


def _attributes(node: Any) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _common(node: Any, rank: int) -> tuple[list[int], list[int], list[int], str]:
    """Strides, dilations, pads (all begins, then all ends) and auto_pad."""
    found = _attributes(node)
    auto = found.get("auto_pad", b"NOTSET").decode()
    strides, dilations = found.get("strides") or [1] * rank, found.get("dilations") or [1] * rank
    return list(strides), list(dilations), list(found.get("pads") or [0] * (2 * rank)), auto


def _halves(total: int, auto: str) -> tuple[int, int]:
    """``SAME_UPPER`` puts the odd pixel at the end, ``SAME_LOWER`` at the begin."""
    small, large = total // 2, total - total // 2
    return (large, small) if auto == "SAME_LOWER" else (small, large)


def _plain_conv(node: Any, source: tuple[int, ...], result: tuple[int, ...], kernel: tuple[int, ...]) -> PlainConv:
    rank = len(kernel)
    strides, dilations, pads, auto = _common(node, rank)
    axes = []
    for n in range(rank):
        begin, end = pads[n], pads[rank + n]
        if auto.startswith("SAME"):
            need = (result[2 + n] - 1) * strides[n] + (kernel[n] - 1) * dilations[n] + 1 - source[2 + n]
            begin, end = _halves(max(0, need), auto)
        axes.append(ConvAxis(source[2 + n], kernel[n], strides[n], dilations[n], begin, end))
    groups = _attributes(node).get("group", 1)
    return PlainConv(tuple(axes), source[1], result[1], groups, source[0])


def _deconv(node: Any, source: tuple[int, ...], result: tuple[int, ...], kernel: tuple[int, ...]) -> Deconv:
    """Pads that the model leaves to ``auto_pad`` or ``output_shape`` follow from the inferred output size."""
    rank = len(kernel)
    strides, dilations, pads, auto = _common(node, rank)
    found = _attributes(node)
    more = found.get("output_padding") or [0] * rank
    axes = []
    for n in range(rank):
        begin, end = pads[n], pads[rank + n]
        if auto.startswith("SAME") or "output_shape" in found:
            reach = (source[2 + n] - 1) * strides[n] + (kernel[n] - 1) * dilations[n] + 1 + more[n]
            begin, end = _halves(reach - result[2 + n], auto)
        axes.append(Axis(kernel[n], strides[n], dilations[n], begin, end, more[n], source[2 + n]))
    return Deconv(tuple(axes), source[1], result[1], found.get("group", 1), source[0])
