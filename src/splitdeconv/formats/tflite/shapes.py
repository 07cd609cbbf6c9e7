"""Values of the small integer tensors that say an output shape, as far as the model fixes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.formats.tflite.graph import Graph

_DEEPEST = 64  # operators in a row; shape arithmetic has a handful
# Operators whose output has their input's shape.
_ELEMENTWISE = frozenset(
    ["CAST", "DEQUANTIZE", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "RELU", "RELU6", "TANH"]
)


@dataclass(frozen=True, slots=True)
class Open:
    """A size that only a run decides: ``factor`` times one that the model leaves open, and ``more``.

    Attributes:
        of: the tensor and its axis that have the size.
    """

    of: tuple[int, int]
    factor: int = 1
    more: int = 0

    def at(self, size: int) -> int:
        """The size where the open one is ``size``."""
        return self.factor * size + self.more


Size = int | Open | None  # None is a size of which nothing is known
Value = list[Size]  # flattened


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
    (tensor, *_) = graph.inputs_of(operator)
    sizes = enumerate(graph.shape(tensor))
    return [Open(size_at(graph, tensor, axis)) if size is None else size for axis, size in sizes]


def size_at(graph: Graph, tensor: int, axis: int) -> tuple[int, int]:
    """The first tensor on the way to ``tensor``, and its axis, that have the size of ``axis``."""
    for _ in range(_DEEPEST):
        operator = graph.producer(tensor) if tensor >= 0 else None
        if operator is None:
            break
        (source, *_), name = graph.inputs_of(operator), graph.name(operator)
        if name == "EXPAND_DIMS":
            place = graph.content(graph.inputs_of(operator)[1])
            inserted = None if place is None else int(place.item()) % len(graph.shape(tensor))
            if inserted is None or inserted == axis:
                break
            axis -= axis > inserted
        elif name not in _ELEMENTWISE:
            break
        tensor = source
    return tensor, axis


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


def _elementwise(function: Callable[[Size, Size], Size]) -> Callable[[Graph, int, int], Value | None]:
    def rule(graph: Graph, operator: int, depth: int) -> Value | None:
        left, right = (shape_value(graph, tensor, depth) for tensor in graph.inputs_of(operator)[:2])
        if left is None or right is None or (len(left) != len(right) and 1 not in (len(left), len(right))):
            return None
        size = max(len(left), len(right))
        pairs = zip(left * (size // len(left)), right * (size // len(right)), strict=True)
        return [None if a is None or b is None else function(a, b) for a, b in pairs]

    return rule


def _times(a: Size, b: Size) -> Size:
    match a, b:
        case (int(), int()):
            return a * b
        case (Open(), int() as times) | (int() as times, Open()):
            size = a if isinstance(a, Open) else b
            assert isinstance(size, Open), "one of them is"
            return replace(size, factor=size.factor * times, more=size.more * times)
    return None


def _plus(a: Size, b: Size) -> Size:
    match a, b:
        case (int(), int()):
            return a + b
        case (Open(), int() as more) | (int() as more, Open()):
            size = a if isinstance(a, Open) else b
            assert isinstance(size, Open), "one of them is"
            return replace(size, more=size.more + more)
    return None


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
    "MUL": _elementwise(_times),
    "ADD": _elementwise(_plus),
    "SUB": _elementwise(lambda a, b: _plus(a, _times(b, -1))),
}
