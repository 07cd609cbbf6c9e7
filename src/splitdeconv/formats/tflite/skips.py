"""Skip connections: maps that a CONCATENATION puts beside a stretched one, in front of a convolution.

Before: CONCATENATION of a stretched map and others ─ [element-wise, PAD, MIRROR_PAD] ─ CONV_2D.
After: a convolution of the stretched map, one of the others, and their sum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from splitdeconv.formats.joined import JoinedPart, parts_of, way_behind
from splitdeconv.formats.tflite.elementwise import ElementWise, as_stage, map_operand
from splitdeconv.formats.tflite.graph import Graph

TensorPart = JoinedPart[int, int]
_PADS = ("MIRROR_PAD", "PAD", "PADV2")


def stage_of(part: TensorPart, graph: Graph, operator: int, *, own: bool) -> ElementWise | None:
    """An operator behind the CONCATENATION as it works on its part, or on the maps beside it; None where it moves."""
    stage = as_stage(graph, operator)
    if stage is None or stage.values is None or stage.axis != -1 or stage.values.shape[-1] != part.total:
        return stage
    return replace(stage, values=np.take(stage.values, part.numbers(own=own), axis=-1))


def parts_at(graph: Graph, x: int) -> list[TensorPart]:
    """The parts of a map that a convolution reads; none where no CONCATENATION of channels is behind it."""

    def before(operator: int) -> int | None:
        place = _map_place(graph, operator)
        return None if place is None else graph.producer(graph.inputs_of(operator)[place])

    way = way_behind(graph.producer(x), lambda operator: graph.name(operator) == "CONCATENATION", before)
    if not way:
        return []
    concat, *behind = way
    options, tensors = graph.operators[concat].builtinOptions, graph.inputs_of(concat)
    rank = len(graph.shape(graph.outputs_of(concat)[0]))
    if options.axis % rank != rank - 1 or options.fusedActivationFunction:
        return []
    return parts_of(concat, tensors, [graph.shape(tensor)[-1] or 0 for tensor in tensors], behind)


def _map_place(graph: Graph, operator: int) -> int | None:
    """Which operand is the map of an operator that may stand behind a CONCATENATION; None of any other."""
    if graph.name(operator) in _PADS:
        fixed = all(graph.content(each) is not None for each in graph.inputs_of(operator)[1:])
        return 0 if fixed else None
    return map_operand(graph, operator)
