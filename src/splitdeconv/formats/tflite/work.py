"""Multiply-accumulates of a model's other operators."""

from __future__ import annotations

from typing import Any

from splitdeconv.deconv.ops import elements
from splitdeconv.formats.tflite.graph import Graph

_BY_FILTER = {"CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D", "FULLY_CONNECTED"}


def other_macs(root: Any) -> int | None:
    """Of all convolutions, dense layers and matrix products in the first subgraph; None where sizes are open."""
    graph = Graph(root, 0)
    total = 0
    for operator in range(len(graph.operators)):
        macs = _macs(graph, operator)
        if macs is None:
            return None
        total += macs
    return total


def _macs(graph: Graph, operator: int) -> int | None:
    name = graph.name(operator)
    if name not in _BY_FILTER and name != "BATCH_MATMUL":
        return 0
    source, other = graph.inputs_of(operator)[:2]
    if min(source, other) < 0:
        return 0
    out, filled = graph.shape(graph.outputs_of(operator)[0]), graph.shape(other)
    if None in out or None in filled:
        return None
    if name == "BATCH_MATMUL":
        options = graph.operators[operator].builtinOptions
        shape = graph.shape(source)
        inner = shape[-2 if options is not None and options.adjX else -1] if len(shape) > 1 else 1
        return None if inner is None else elements(out) * inner
    if not filled:
        return 0
    channels = filled[-1] if name in ("DEPTHWISE_CONV_2D", "CONV_3D") else filled[0]
    return elements(out) * (elements(filled) // (channels or 1))
