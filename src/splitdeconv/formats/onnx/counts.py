"""How many operators an ONNX model has, and what memory its maps take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from splitdeconv.formats.alive import GraphStep, peak_bytes
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, bodies, is_standard, places
from splitdeconv.formats.onnx.shapes import Shapes

_VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


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
