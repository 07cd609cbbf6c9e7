"""Walking an ONNX model: graphs, subgraphs and model-local functions, and where a node stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import onnx_ir as ir

STANDARD_DOMAINS = ("", "ai.onnx")
MICROSOFT = "com.microsoft"  # DequantizeLinear and QuantizeLinear of 16 bits before opset 21; the same otherwise
_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


class Place(NamedTuple):
    """A node with what surrounds it.

    Attributes:
        node: the node.
        graph: the graph or function body that holds it.
        where: for people: ``graph``, ``then_branch of If 'cond'``, ``function 'domain::name'``.
        opset: version of the standard operators there.
        in_function: whether a function holds it, at any depth.
    """

    node: ir.Node
    graph: ir.Graph | ir.Function
    where: str
    opset: int
    in_function: bool

    @property
    def in_main_graph(self) -> bool:
        """Whether the node stands in the model's own graph."""
        return self.where == "graph"


def places(model: ir.Model) -> Iterator[Place]:
    """Every node of the model, in the same order for equal models; bodies follow the node that holds them."""
    opset = opset_of(model.opset_imports)
    yield from walk(model.graph, "graph", opset, in_function=False)
    for function in model.functions.values():
        where = f"function '{function.domain}::{function.name}'"
        yield from walk(function, where, opset_of(function.opset_imports) or opset, in_function=True)


def opset_of(imports: dict[str, int]) -> int:
    """The version of the standard operators; 0 where it is not stated."""
    return imports.get("") or imports.get("ai.onnx") or 0


def walk(graph: ir.Graph | ir.Function, where: str, opset: int, in_function: bool) -> Iterator[Place]:
    """Every node of a graph or function; bodies follow the node that holds them."""
    for node in graph:
        yield Place(node, graph, where, opset, in_function)
        if node.attributes:
            for name, body in bodies(node):
                yield from walk(body, f"{name} of {node.op_type} '{node.name or ''}'", opset, in_function)


def bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """The graphs that a node holds, each with the name of its attribute."""
    for attribute in node.attributes.values():
        if attribute.type in _BODIES and not attribute.is_ref():
            is_one = attribute.type == ir.AttributeType.GRAPH
            for body in (attribute.as_graph(),) if is_one else attribute.as_graphs():
                yield attribute.name, body


def is_standard(node: ir.Node, op_type: str) -> bool:
    """Whether ``node`` is the standard operator ``op_type``."""
    return node.op_type == op_type and node.domain in STANDARD_DOMAINS


def is_quantiser(node: ir.Node, op_type: str) -> bool:
    """Whether ``node`` is DequantizeLinear or QuantizeLinear, ONNX's or that of ONNX Runtime's own operators."""
    return node.op_type == op_type and node.domain in (*STANDARD_DOMAINS, MICROSOFT)


def dequantiser_of(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that makes ``value``, or None."""
    node = None if value is None else value.producer()
    return node if node is not None and is_quantiser(node, "DequantizeLinear") else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute of a node; ``default`` where it has none, or where a function's caller gives it."""
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else int(attribute.as_int())
