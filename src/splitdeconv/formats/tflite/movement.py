"""Where the elements of a map go: operators that only move data, run on an array of the elements' numbers.

An element that the model fills with zero (in quantised models: with the zero-point) is ``ZERO`` there, one that it
fills with anything else ``OTHER``. Element-wise operators move nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import OTHER, ZERO
from splitdeconv.formats.tflite.elementwise import ElementWise, as_stage, map_operand
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.moves import MOVES, NUMBERS, Operands, Unmoved
from splitdeconv.formats.tflite.skips import TensorPart, stage_of
from splitdeconv.formats.tflite.units import same_unit, zero_point

# Which operands of an operator are maps; all where it is not named here.
_MAPS = {
    "PACK": None,
    "CONCATENATION": None,
    "DILATE": (0, 2),
    "PADV2": (0, 2),
    "SCATTER_ND": (1,),
    "SELECT_V2": (1, 2),
    "SPLIT": (1,),
    "STABLEHLO_PAD": (0, 1),
    "STABLEHLO_SCATTER": (0, 2),
    "TRANSPOSE_CONV": (2,),
}
_DEEPEST = 64


def map_inputs(graph: Graph, operator: int) -> list[int]:
    """The maps whose elements an operator moves, or works on one by one; none where it does something else."""
    name, operands = graph.name(operator), graph.inputs_of(operator)
    if name in MOVES:
        places = _MAPS.get(name, (0,))
        given = operands if places is None else [operands[place] for place in places if place < len(operands)]
    else:
        place = map_operand(graph, operator)
        given = [] if place is None else [operands[place]]
    return [tensor for tensor in given if tensor >= 0 and not is_number(graph, tensor)]


def is_number(graph: Graph, tensor: int, depth: int = 0) -> bool:
    """Whether a tensor is made of constants and of sizes alone."""
    if graph.content(tensor) is not None:
        return True
    operator = graph.producer(tensor)
    if operator is None or depth > _DEEPEST:
        return False
    name = graph.name(operator)
    operands = [each for each in graph.inputs_of(operator) if each >= 0]
    known = name in NUMBERS or name in MOVES
    return name == "SHAPE" or (known and bool(operands) and all(is_number(graph, each, depth + 1) for each in operands))


class TensorMovement:
    """What arrives where, of the elements of ``source``.

    Args:
        graph: the subgraph.
        source: the tensor whose elements are numbered, row-major.
        shape: the sizes that it is taken to have.
        part: which part of a CONCATENATION comes from ``source``; of the others nothing is told. None where all does.

    Attributes:
        passed: the element-wise operators that were met, and the numbers that each works on.
    """

    def __init__(self, graph: Graph, source: int, shape: tuple[int, ...], part: TensorPart | None = None) -> None:
        self._graph, self._part = graph, part
        self._maps: dict[int, Array | None] = {source: np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)}
        self._numbers: dict[int, Array | None] = {}
        self.passed: dict[int, tuple[ElementWise, Array]] = {}

    def of(self, tensor: int) -> Array | None:
        """For each element the number of that of the source which it is; None where that is unknown."""
        if tensor not in self._maps:
            self._maps[tensor] = self._moved(tensor)
        return self._maps[tensor]

    def _moved(self, tensor: int) -> Array | None:
        graph = self._graph
        if is_number(graph, tensor):
            number = self._number(tensor)
            zero = zero_point(graph.tensors[tensor])
            return None if number is None else np.where(number == zero, ZERO, OTHER)
        operator = graph.producer(tensor)
        if operator is None:
            return None
        if self._part is not None and operator == self._part.concat:
            return self.of(self._part.value)
        if graph.name(operator) not in MOVES:
            return self._element_wise(operator)
        if not all(same_unit(graph, each, tensor) for each in map_inputs(graph, operator)):
            return None
        return self._evaluated(operator, tensor, maps=True)

    def _element_wise(self, operator: int) -> Array | None:
        if self._part is not None and operator in self._part.behind:
            stage = stage_of(self._part, self._graph, operator, own=True)
        else:
            stage = as_stage(self._graph, operator)
        x = None if stage is None else self.of(stage.source)
        if stage is None or x is None or not stage.fits(x.shape):
            return None
        self.passed[operator] = (stage, x)
        return x if stage.keeps_zero else np.where(x == ZERO, OTHER, x)

    def _evaluated(self, operator: int, tensor: int, *, maps: bool) -> Array | None:
        """An output of an operator that moves data or computes sizes, on numbers."""
        name, operands = self._graph.name(operator), self._graph.inputs_of(operator)
        places = _MAPS.get(name, (0,)) if maps else ()
        given: list[Array | None] = []
        for place, operand in enumerate(operands):
            is_map = maps and (places is None or place in places)
            found = None if operand < 0 else self.of(operand) if is_map else self._number(operand)
            if found is None and operand >= 0:
                return None
            given.append(found)
        rule = MOVES.get(name) or NUMBERS[name]
        try:
            outputs = rule(Operands(self._graph, operator, given, ZERO if maps else 0))
        except (Unmoved, ValueError, IndexError, TypeError, AttributeError, ArithmeticError):
            return None  # it contradicts its operands, or was never seen in this way
        return outputs[self._graph.outputs_of(operator).index(tensor)]

    def _number(self, tensor: int) -> Array | None:
        """What a tensor holds, from constants and sizes."""
        if tensor not in self._numbers:
            self._numbers[tensor] = self._computed(tensor)
        return self._numbers[tensor]

    def _computed(self, tensor: int) -> Array | None:
        known, operator = self._graph.content(tensor), self._graph.producer(tensor)
        if known is not None or operator is None or not is_number(self._graph, tensor):
            return known
        if self._graph.name(operator) == "SHAPE":
            return self._sizes(self._graph.inputs_of(operator)[0])
        return self._evaluated(operator, tensor, maps=False)

    def _sizes(self, tensor: int) -> Array | None:
        found = self.of(tensor)
        sizes: Sequence[int | None] = self._graph.shape(tensor) if found is None else found.shape
        return None if None in sizes else np.asarray(sizes, np.int64)
