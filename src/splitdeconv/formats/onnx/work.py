"""What an ONNX model computes, and what that takes: layers, data movement, MACs, operators, memory of maps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.layers import Dense, PlainConv, Spec
from splitdeconv.deconv.network import Layer, Operation, Operations
from splitdeconv.deconv.ops import (
    Concat,
    DepthToSpace,
    Dim,
    Op,
    Order,
    Pad,
    Part,
    Relayout,
    Reshape,
    Shape,
    Slice,
    Transpose,
)
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError
from splitdeconv.formats.alive import GraphStep, peak_bytes
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.find import OP, named_places
from splitdeconv.formats.onnx.geometry import RunTimeGeometryError, axes_from, conv_axes, read_attributes
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, bodies, integer, is_standard, places
from splitdeconv.formats.onnx.shapes import Shapes

_FACTORS = {"Conv": 1, "QLinearConv": 3, "Gemm": 1, "MatMul": 1, OP: 1}  # which input is the weight or second factor
_VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_ELEMENTWISE = ("Cast", "Clip", "DequantizeLinear", "Identity", "LeakyRelu", "QuantizeLinear", "Relu")


def other_macs(model: ir.Model, shapes: Shapes, sites: Collection[ir.Node]) -> int | None:
    """MACs of all convolutions and matrix products outside of functions but ``sites``; None where a size is unknown."""
    total = 0
    for place in places(model):
        if place.in_function or place.node in sites or place.node.op_type == OP or not is_layer(place.node):
            continue
        macs = _macs(place.node, shapes)
        if macs is None:
            return None
        total += macs
    return total


def is_layer(node: ir.Node) -> bool:
    """Whether a node is a convolution or a matrix product."""
    return node.op_type in _FACTORS and is_standard(node, node.op_type)


def _factor(node: ir.Node) -> ir.Value | None:
    """The weight or second factor."""
    place = _FACTORS[node.op_type]
    return node.inputs[place] if len(node.inputs) > place else None


def _shape(shapes: Shapes, value: ir.Value | None) -> Shape | None:
    return None if value is None else shapes.by_name.get(value.name or "")


def _macs(node: ir.Node, shapes: Shapes) -> int | None:
    """Output elements times the length of each one's sum."""
    output, factor = _shape(shapes, node.outputs[0]), _shape(shapes, _factor(node))
    if output is None or factor is None or None in output or None in factor:
        return None
    return math.prod(size or 0 for size in output) * _length(node, factor)


def _length(node: ir.Node, factor: Shape) -> int:
    """Number of products in one output element, from the shape of the weight or second factor."""
    sizes = [size or 0 for size in factor]
    if node.op_type in ("Conv", "QLinearConv"):
        return math.prod(sizes[1:])
    if _is_transposed(node):
        return sizes[-1]
    return sizes[-2] if len(sizes) > 1 else sizes[0]


def _is_transposed(node: ir.Node) -> bool:
    """Whether it is a Gemm whose matrix has a row for each output."""
    return node.op_type == "Gemm" and bool(integer(node, "transB", 0))


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def operations(model: ir.Model, shapes: Shapes, label: str) -> Operations:
    """All operators of the main graph.

    Args:
        model: as it is, rewritten or not.
        shapes: of its values.
        label: the model's name in messages.

    Raises:
        InputError: the sizes of a layer are unknown, or contradict each other.
    """
    names = {id(place.node): name for name, place in named_places(places(model))}
    opset = model.opset_imports.get("") or model.opset_imports.get("ai.onnx") or 0
    reader = _NodeReader(shapes, opset, label, names)
    steps = [reader.operation(node, number) for node in model.graph for number in range(len(node.outputs))]
    return Operations("NCHW", tuple(steps))


class _NodeReader:
    """Reads nodes as operations."""

    def __init__(self, shapes: Shapes, opset: int, label: str, names: Mapping[int, str]) -> None:
        self.shapes, self.opset, self.label, self.names = shapes, opset, label, names

    def operation(self, node: ir.Node, number: int) -> Operation:
        """Output ``number`` of a node."""
        output = node.outputs[number]
        inputs = tuple(value.name or "" for value in node.inputs if value is not None)
        in_shape, shape = self._sizes(node.inputs[0] if node.inputs else None), self._sizes(output)
        what: Layer | Op | None = None
        if is_layer(node):
            what = self._layer(node, in_shape, shape)
        elif is_standard(node, node.op_type):
            what = self._movement(node, number, in_shape, shape)
        return Operation(what, inputs, output.name or "", in_shape, shape)

    def _sizes(self, value: ir.Value | None) -> tuple[int, ...]:
        """Empty where one of them is unknown."""
        sizes = _shape(self.shapes, value) or ()
        known = tuple(size for size in sizes if size is not None)
        return known if len(known) == len(sizes) else ()

    def _layer(self, node: ir.Node, source: tuple[int, ...], result: tuple[int, ...]) -> Layer:
        where = f"{self.label}: {node.op_type} '{node.name or ''}'"
        factor = self._sizes(_factor(node))
        if not source or not result or not factor:
            sizes = f"{source or 'unknown'}, {factor or 'unknown'} → {result or 'unknown'}"
            raise InputError(f"{where}: found sizes {sizes}, wanted all known: use --input-shape NAME=SIZE,SIZE,…")
        name = self.names.get(id(node)) or node.name or node.outputs[0].name or ""
        nonzero = self._nonzero(node)
        if node.op_type in ("Gemm", "MatMul"):
            spec: Spec = Dense(_length(node, factor), result[-1], math.prod(result[:-1]))
            return Layer(name, spec, _as_rows(node, nonzero, result[-1]))
        try:
            return Layer(name, _spec(node, source, result, factor[2:]), nonzero)
        except (ValueError, RunTimeGeometryError) as error:
            raise InputError(f"{where}: {error}") from None

    def _nonzero(self, node: ir.Node) -> Array | None:
        """Where a layer's constant weights differ from their zero-point; None where they are not constant."""
        value, zero, axis = _factor(node), None, 0
        if node.op_type == "QLinearConv":
            zero = node.inputs[5]
        producer = None if value is None else value.producer()
        if producer is not None and producer.op_type == "DequantizeLinear":
            value, zero = producer.inputs[0], producer.inputs[2] if len(producer.inputs) > 2 else None
            axis = integer(producer, "axis", 1)
        stored = constant(value, self.opset)
        point = constant(zero, self.opset)
        if stored is None:
            return None
        points = np.zeros((), stored.dtype) if point is None else point
        shape = [1] * stored.ndim
        if points.size > 1:
            shape[axis] = -1
        nonzero: Array = stored != points.reshape(shape)
        return nonzero

    def _movement(self, node: ir.Node, number: int, source: tuple[int, ...], shape: tuple[int, ...]) -> Op | None:
        """Data movement; where its numbers are unknown, one that does not give ``shape``."""
        match node.op_type:
            case name if name in _ELEMENTWISE:
                return Relayout()
            case "Reshape" | "Squeeze" | "Unsqueeze":
                return Reshape(tuple(Dim(size) for size in shape))
            case "Transpose":
                perm = node.attributes.get("perm")
                return Transpose(tuple(reversed(range(len(source))) if perm is None else perm.as_ints()))
            case "Concat":
                return Concat(node.attributes["axis"].as_int())
            case "DepthToSpace":
                crd = _text(node, "mode", "DCR") == "CRD"
                order: Order = "channel_major" if crd else "block_major"
                return DepthToSpace(node.attributes["blocksize"].as_int(), order, "NCHW")
            case "Split":
                return Part(integer(node, "axis", 0), number, len(node.outputs))
            case "Pad":
                return Pad(*self._pads(node, len(source)))
            case "Slice":
                return Slice(*self._cuts(node, source))
        return None

    def _pads(self, node: ir.Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Zeros before and after each axis; none where they are unknown or no zeros."""
        pads, value, axes = self._parameters(node, 1, 3)
        zeros = _text(node, "mode", "constant") == "constant" and not any(value)
        if not zeros or axes or len(pads) != 2 * rank or min(pads) < 0:
            return (0,) * rank, (0,) * rank
        return tuple(pads[:rank]), tuple(pads[rank:])

    def _cuts(self, node: ir.Node, source: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What is cut off before and after each axis; nothing where that is unknown."""
        begin, end = [0] * len(source), [0] * len(source)
        starts, ends, axes, steps = self._parameters(node, 1, 4)
        if all(step == 1 for step in steps):
            for axis, first, last in zip(axes or range(len(starts)), starts, ends, strict=False):
                start, stop, _ = slice(first, last).indices(source[axis])
                begin[axis], end[axis] = start, source[axis] - stop
        return tuple(begin), tuple(end)

    def _parameters(self, node: ir.Node, first: int, count: int) -> list[list[int]]:
        """Constant inputs as lists; empty where they are left out or unknown."""
        values = [*node.inputs[first : first + count], *[None] * count][:count]
        known = [constant(value, self.opset) for value in values]
        return [[] if array is None else array.ravel().tolist() for array in known]


def _spec(node: ir.Node, source: Sequence[int], result: Sequence[int], kernel: Sequence[int]) -> Deconv | PlainConv:
    attributes = read_attributes(node)
    groups = attributes.get("group", 1)
    if node.op_type == OP:
        return Deconv(axes_from(attributes, kernel, source[2:]), source[1], result[1], groups, source[0])
    return PlainConv(conv_axes(attributes, kernel, source[2:]), source[1], result[1], groups, source[0])


def _as_rows(node: ir.Node, nonzero: Array | None, outs: int) -> Array | None:
    """A dense layer's mask as ``(out, in)``; None where it is not a plain matrix."""
    if nonzero is None or nonzero.ndim != 2:
        return None
    rows = nonzero if _is_transposed(node) else nonzero.T
    return rows if rows.shape[0] == outs else None


def operator_counts(model: ir.Model) -> Counter[str]:
    """Of each operator, in all graphs, bodies and functions; with its domain where that is not ONNX's own."""
    counts = Counter([(place.node.domain, place.node.op_type) for place in places(model)])
    named: Counter[str] = Counter()
    for (domain, op_type), count in counts.items():
        named[op_type if domain in STANDARD_DOMAINS else f"{domain}::{op_type}"] += count
    return named


def map_bytes(model: ir.Model, shapes: Shapes) -> int | None:
    """The most bytes of the main graph's values at once; None where a size is unknown."""
    graph = model.graph
    given = [value for value in graph.inputs if (value.name or "") not in graph.initializers]
    nodes = [node for node in graph if not is_standard(node, "Constant")]
    sizes = {value: _bytes(value, shapes) for value in (*given, *_made(nodes))}
    known = {value: size for value, size in sizes.items() if size is not None}
    if len(known) < len(sizes):
        return None
    steps = [
        GraphStep(
            tuple(_read(node)),
            {value: known[value] for value in _made([node])},
            is_view=node.op_type in _VIEWS and is_standard(node, node.op_type),
        )
        for node in nodes
    ]
    return peak_bytes({value: known[value] for value in given}, steps, graph.outputs)


def _made(nodes: list[ir.Node]) -> Iterator[ir.Value]:
    """The outputs that are not left out."""
    return (value for node in nodes for value in node.outputs if value.name)


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node and its bodies read."""
    yield from (value for value in node.inputs if value is not None)
    for _, body in bodies(node):
        yield from body.outputs
        for inner in body:
            yield from _read(inner)


def _bytes(value: ir.Value, shapes: Shapes) -> int | None:
    shape, dtype = shapes.by_name.get(value.name or ""), shapes.type_of(value)
    if shape is None or dtype is None or None in shape:
        return None
    return math.ceil(math.prod(size or 0 for size in shape) * dtype.itemsize)
