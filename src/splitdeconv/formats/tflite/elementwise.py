"""Element-wise operators between a map and a convolution: they commute with stretching the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.units import zero_point

_KEEP_ZERO = ("ABS", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "RELU", "RELU6", "RELU_N1_TO_1", "SQUARE", "TANH")
_UNARY = frozenset([*_KEEP_ZERO, "EXP", "LOGISTIC"])
_WITH_CONSTANT = frozenset(["ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "SUB"])


@dataclass(frozen=True, slots=True, eq=False)
class ElementWise:
    """One element-wise operator.

    Attributes:
        operator: its index.
        place: of the map among its operands.
        source, result: the tensors of the map, before and after.
        constant: the other operand's tensor, or None.
        values: of that; None without one.
        keeps_zero: whether it makes zeros of zeros.
    """

    operator: int
    place: int
    source: int
    result: int
    constant: int | None
    values: Array | None
    keeps_zero: bool

    @property
    def axis(self) -> int | None:
        """Counted from the last, the axis along which the constant differs; None for one number for all."""
        if self.values is None or self.values.size == 1:
            return None
        return next(-1 - n for n, size in enumerate(reversed(self.values.shape)) if size > 1)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the constant is one number, or has one for each place along one axis of a map of ``shape``."""
        if self.values is None or self.axis is None:
            return True
        alone = self.values.size == self.values.shape[self.axis]
        return self.values.ndim <= len(shape) and alone and self.values.size == shape[self.axis]


def map_operand(graph: Graph, operator: int) -> int | None:
    """Which operand of an element-wise operator is the map; None for any other operator."""
    name, operands = graph.name(operator), graph.inputs_of(operator)
    if name in _UNARY:
        return 0 if len(operands) == 1 else None
    if name not in _WITH_CONSTANT or len(operands) != 2 or min(operands) < 0:
        return None
    maps = [place for place, tensor in enumerate(operands) if graph.content(tensor) is None]
    return maps[0] if len(maps) == 1 else None


def as_stage(graph: Graph, operator: int) -> ElementWise | None:
    """The element-wise operator, or None where it is none."""
    place = map_operand(graph, operator)
    if place is None:
        return None
    operands, (result, *_) = graph.inputs_of(operator), graph.outputs_of(operator)
    constant = operands[1 - place] if len(operands) == 2 else None
    values = None if constant is None else graph.content(constant)
    keeps = _keeps_zero(graph, operator, place, constant, values)
    return ElementWise(operator, place, operands[place], result, constant, values, keeps)


def _keeps_zero(graph: Graph, operator: int, place: int, constant: int | None, values: Array | None) -> bool:
    name = graph.name(operator)
    if values is None or constant is None:
        return name in _KEEP_ZERO
    finite = bool(np.all(np.isfinite(values)))
    if name in ("ADD", "SUB", "MAXIMUM", "MINIMUM"):
        return not np.any(values != zero_point(graph.tensors[constant]))
    return finite and (name in ("MUL", "PRELU") or (name == "DIV" and place == 0 and bool(np.all(values))))
