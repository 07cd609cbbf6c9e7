"""Skip connections: maps that a CONCATENATION puts beside a stretched one, in front of a convolution.

Before: CONCATENATION of a stretched map and others ─ [element-wise, PAD, MIRROR_PAD] ─ CONV_2D.
After: a convolution of the stretched map, one of the others, and their sum. What stands behind the CONCATENATION works
on both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.formats.tflite.elementwise import ElementWise, as_stage, map_operand
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.written_convs import stretched_first

_LONGEST = 64  # operators between a CONCATENATION and the convolution
_PADS = ("MIRROR_PAD", "PAD", "PADV2")


@dataclass(frozen=True, slots=True, eq=False)
class TensorPart:
    """One of the maps that a CONCATENATION puts together.

    Attributes:
        concat: the operator.
        tensor: the map.
        beside: the others, in their order.
        channels: where its channels lie among all: first, and behind last.
        total: channels of all.
        behind: the operators between the CONCATENATION and the convolution, in order.
    """

    concat: int
    tensor: int
    beside: tuple[int, ...]
    channels: tuple[int, int]
    total: int
    behind: tuple[int, ...]

    @property
    def count(self) -> int:
        """Its channels."""
        return self.channels[1] - self.channels[0]

    def stage(self, graph: Graph, operator: int, *, own: bool) -> ElementWise | None:
        """An operator behind the CONCATENATION as it works on this map, or on those beside it; None where it moves."""
        stage = as_stage(graph, operator)
        if stage is None or stage.values is None or stage.axis != -1 or stage.values.shape[-1] != self.total:
            return stage
        order = stretched_first(np.arange(self.total), self.channels)
        rows = order[: self.count] if own else order[self.count :]
        return replace(stage, values=np.take(stage.values, rows, axis=-1))


def parts_at(graph: Graph, x: int) -> list[TensorPart]:
    """The parts of a map that a convolution reads; none where no CONCATENATION of channels is behind it."""
    behind: list[int] = []
    operator = graph.producer(x)
    while operator is not None and len(behind) < _LONGEST:
        if graph.name(operator) == "CONCATENATION":
            return _parts(graph, operator, tuple(reversed(behind)))
        place = _map_place(graph, operator)
        if place is None:
            return []
        behind.append(operator)
        operator = graph.producer(graph.inputs_of(operator)[place])
    return []


def _parts(graph: Graph, concat: int, behind: tuple[int, ...]) -> list[TensorPart]:
    options, tensors = graph.operators[concat].builtinOptions, graph.inputs_of(concat)
    rank = len(graph.shape(graph.outputs_of(concat)[0]))
    counts = [graph.shape(tensor)[-1] or 0 for tensor in tensors if tensor >= 0]
    if options.axis % rank != rank - 1 or options.fusedActivationFunction or 0 in counts or len(counts) < 2:
        return []
    ends = np.cumsum(counts).tolist()
    return [
        TensorPart(concat, tensor, (*tensors[:n], *tensors[n + 1 :]), (end - count, end), sum(counts), behind)
        for n, (tensor, count, end) in enumerate(zip(tensors, counts, ends, strict=True))
    ]


def _map_place(graph: Graph, operator: int) -> int | None:
    """Which operand is the map of an operator that may stand behind a CONCATENATION; None of any other."""
    if graph.name(operator) in _PADS:
        fixed = all(graph.content(each) is not None for each in graph.inputs_of(operator)[1:])
        return 0 if fixed else None
    return map_operand(graph, operator)
