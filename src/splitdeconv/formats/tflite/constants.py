"""Constants behind operators that only move their elements, or give them another type."""

from __future__ import annotations

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.moves import MOVES, Operands, Unmoved
from splitdeconv.formats.tflite.units import dequantised

_MOVING = frozenset(["EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"])
_DEEPEST = 16  # operators in a row


def folded(graph: Graph, tensor: int, depth: int = 0) -> Array | None:
    """The values of a constant as ``tensor`` has them, or None where it is computed from something else.

    Args:
        graph: the subgraph.
        tensor: a constant, or what RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS and DEQUANTIZE make of one.
        depth: operators already followed.
    """
    content = graph.content(tensor)
    operator = graph.producer(tensor) if tensor >= 0 else None
    if content is not None or operator is None or depth > _DEEPEST:
        return content
    name, operands = graph.name(operator), graph.inputs_of(operator)
    values = folded(graph, operands[0], depth + 1) if name in _MOVING or name == "DEQUANTIZE" else None
    if values is None:
        return None
    if name == "DEQUANTIZE":
        return dequantised(values, graph.tensors[operands[0]])
    given = [values, *(graph.content(each) for each in operands[1:])]
    try:
        (moved,) = MOVES[name](Operands(graph, operator, given, 0))
    except (Unmoved, ValueError, IndexError, TypeError, AttributeError):
        return None  # it contradicts its operands
    return moved if moved.shape == graph.shape(tensor) else None


def source_of(graph: Graph, tensor: int) -> int:
    """The stored constant that ``tensor`` is made of, where :func:`folded` gives values."""
    operator = graph.producer(tensor)
    return tensor if operator is None else source_of(graph, graph.inputs_of(operator)[0])
