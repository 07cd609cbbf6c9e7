"""Values of the small integer tensors that say an output shape, as far as the model fixes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from splitdeconv.formats.tflite.graph import Graph

Value = list[int | None]  # flattened; None is a size that only a run decides
_DEEPEST = 64  # operators in a row; shape arithmetic has a handful


def shape_value(graph: Graph, tensor: int, depth: int = 0) -> Value | None:
    """Elements of an integer tensor that is constant or computed from shapes; None where nothing is known.

    Args:
        graph: the subgraph.
        tensor: index of a tensor of at most one axis.
        depth: operators already followed.
    """
    content = graph.content(tensor)
    if content is not None:
        return [int(value) for value in content.reshape(-1)]
    operator = graph.producer(tensor) if tensor >= 0 else None
    if operator is None or depth > _DEEPEST:
        return None
    known = _RULES.get(graph.name(operator))
    return None if known is None else known(graph, operator, depth + 1)


def _shape(graph: Graph, operator: int, depth: int) -> Value | None:  # noqa: ARG001  # one signature for all rules
    return list(graph.shape(graph.inputs_of(operator)[0]))


def _same(graph: Graph, operator: int, depth: int) -> Value | None:
    return shape_value(graph, graph.inputs_of(operator)[0], depth)


def _joined(graph: Graph, operator: int, depth: int) -> Value | None:
    parts = [shape_value(graph, tensor, depth) for tensor in graph.inputs_of(operator)]
    if any(part is None for part in parts):
        return None
    return [element for part in parts if part is not None for element in part]


def _sliced(graph: Graph, operator: int, depth: int) -> Value | None:
    source, begin, end, step = graph.inputs_of(operator)[:4]
    value = shape_value(graph, source, depth)
    bounds = [graph.content(tensor) for tensor in (begin, end, step)]
    if value is None or any(bound is None or bound.size != 1 for bound in bounds):
        return None
    first, last, stride = (int(bound.reshape(-1)[0]) for bound in bounds if bound is not None)
    options = graph.operators[operator].builtinOptions
    if options is None:
        return None
    if options.shrinkAxisMask & 1:
        return [value[first]] if -len(value) <= first < len(value) else None
    if stride == 0:
        return None
    begin_at, end_at = None if options.beginMask & 1 else first, None if options.endMask & 1 else last
    return value[slice(begin_at, end_at, stride)]


def _elementwise(function: Callable[[int, int], int]) -> Callable[[Graph, int, int], Value | None]:
    def rule(graph: Graph, operator: int, depth: int) -> Value | None:
        left, right = (shape_value(graph, tensor, depth) for tensor in graph.inputs_of(operator)[:2])
        if left is None or right is None or (len(left) != len(right) and 1 not in (len(left), len(right))):
            return None
        size = max(len(left), len(right))
        pairs = zip(left * (size // len(left)), right * (size // len(right)), strict=True)
        return [None if a is None or b is None else function(a, b) for a, b in pairs]

    return rule


def _gathered(graph: Graph, operator: int, depth: int) -> Value | None:
    source, places = graph.inputs_of(operator)[:2]
    value, chosen = shape_value(graph, source, depth), graph.content(places)
    if value is None or chosen is None or np.any(chosen >= len(value)) or np.any(chosen < 0):
        return None
    return [value[int(place)] for place in chosen.reshape(-1)]


_RULES: dict[str, Callable[[Graph, int, int], Value | None]] = {
    "SHAPE": _shape,
    "STRIDED_SLICE": _sliced,
    "PACK": _joined,
    "CONCATENATION": _joined,
    "CAST": _same,
    "RESHAPE": _same,
    "SQUEEZE": _same,
    "EXPAND_DIMS": _same,
    "GATHER": _gathered,
    "MUL": _elementwise(lambda a, b: a * b),
    "ADD": _elementwise(lambda a, b: a + b),
    "SUB": _elementwise(lambda a, b: a - b),
}
