"""How many operators a TFLite model has, and what memory its maps take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from splitdeconv.formats.alive import GraphStep, peak_bytes
from splitdeconv.formats.tflite.graph import Graph, indices
from splitdeconv.formats.tflite.schema import DTYPES, op_name

_VIEWS = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE")


def operator_counts(root: Any) -> Counter[str]:
    """Of each operator, in all subgraphs."""
    return Counter(op_name(root, operator) for graph in root.subgraphs for operator in graph.operators or [])


def map_bytes(root: Any, given: Sequence[tuple[int, ...] | None]) -> int | None:
    """The most bytes of the first subgraph's tensors at once; None where a size is open.

    Args:
        root: of the model.
        given: the shape of each input that is to have another than the file says; None for the file's, with an open
            batch of 1.
    """
    graph = Graph(root, 0)
    inputs = indices(root.subgraphs[0].inputs)
    stated = (tuple(indices(graph.tensors[each].shape)) for each in inputs)
    if any(shape not in (None, own) for own, shape in zip(stated, given, strict=True)):
        return None
    numbers = range(len(graph.operators))
    sizes = {each: _bytes(graph, each) for each in (*inputs, *(each for n in numbers for each in graph.outputs_of(n)))}
    known = {each: size for each, size in sizes.items() if size is not None}
    if len(known) < len(sizes):
        return None

    def of(tensors: Iterable[int]) -> dict[int, int]:
        return {each: known[each] for each in tensors}

    steps = [
        GraphStep(tuple(graph.inputs_of(n)), of(graph.outputs_of(n)), is_view=graph.name(n) in _VIEWS) for n in numbers
    ]
    return peak_bytes(of(inputs), steps, graph.outputs)


def _bytes(graph: Graph, tensor: int) -> int | None:
    """Of one tensor, in the shape that the file has for it; None where more than its batch is open."""
    found = graph.tensors[tensor]
    if found.type not in DTYPES or None in graph.shape(tensor)[1:]:
        return None
    return math.prod(indices(found.shape)) * np.dtype(DTYPES[found.type]).itemsize
