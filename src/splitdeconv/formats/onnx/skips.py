"""Skip connections: maps that a Concat puts beside a stretched one, in front of a convolution.

Before: Concat of a stretched map and others ─ [element-wise, Pad] ─ Conv.
After: a convolution of the stretched map, one of the others, and their sum. What stands behind the Concat works on
both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import OTHER, ZERO, read
from splitdeconv.formats.onnx import upsampling
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import BINARY, Parameter, Stage, as_stage
from splitdeconv.formats.onnx.graph import Place, is_quantiser, is_standard
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.written_convs import stretched_first

_LONGEST = 64  # nodes between a Concat and the convolution


@dataclass(frozen=True)
class ConcatPart:
    """One of the maps that a Concat puts together.

    Attributes:
        concat: the node.
        value: the map.
        beside: the others, in their order.
        channels: where its channels lie among all: first, and behind last.
        total: channels of all.
        behind: the nodes between the Concat and the convolution, in order.
    """

    concat: ir.Node
    value: ir.Value
    beside: tuple[ir.Value, ...]
    channels: tuple[int, int]
    total: int
    behind: tuple[ir.Node, ...]

    @property
    def count(self) -> int:
        """Its channels."""
        return self.channels[1] - self.channels[0]

    def stage(self, node: ir.Node, opset: int, rank: int, *, own: bool) -> Stage | None:
        """A node behind the Concat as it works on this map, or on those beside it; None where it moves elements."""
        stage = _stage(node, opset, rank, self.total)
        order = stretched_first(np.arange(self.total), self.channels)
        rows = order[: self.count] if own else order[self.count :]
        return stage and replace(stage, parameters=tuple(each and _rows(each, rows) for each in stage.parameters))

    def zeros_behind(self, opset: int, rank: int) -> list[tuple[int, int]] | None:
        """Zeros that Pads behind the Concat put around each spatial axis; None where they pad with anything else."""
        shape = (1, 2, 3, 4, 5)[:rank]
        numbers = np.arange(np.prod(shape)).reshape(shape)
        for node in self.behind:
            if node.op_type != "Pad":
                continue
            known = [constant(each, opset) for each in node.inputs[1:]]
            padded = upsampling.padded(node, [numbers, *known], opset, ZERO, OTHER)
            if padded is None:
                return None
            numbers = padded
        index = read(numbers, shape)
        if index is None or any(axis.clamps_begin or axis.clamps_end for axis in index.axes):
            return None
        return [(axis.begin, axis.end) for axis in index.axes]


def parts_at(place: Place, channels: int, rank: int, shapes: Shapes) -> tuple[list[ConcatPart], bool]:
    """The parts of the map of ``channels`` that a convolution reads, and whether it is quantised in between.

    No parts where no Concat of channels is behind it.
    """
    behind: list[ir.Node] = []
    is_quantised = False
    value = place.node.inputs[0]
    while value is not None and (node := value.producer()) is not None and len(behind) < _LONGEST:
        if node.graph is not place.graph:
            break
        if is_standard(node, "Concat"):
            return _parts(node, tuple(reversed(behind)), channels, rank, shapes), is_quantised
        is_quantised = is_quantised or _is_quantiser(node)
        if not (_is_fixed_pad(node, place.opset) or _is_quantiser(node) or _stage(node, place.opset, rank, channels)):
            break
        behind.append(node)
        value = node.inputs[_data_input(node, place.opset)]
    return [], False


def _parts(concat: ir.Node, behind: tuple[ir.Node, ...], channels: int, rank: int, shapes: Shapes) -> list[ConcatPart]:
    axis = concat.attributes.get("axis")
    values = [value for value in concat.inputs if value is not None]
    counts = [(shapes.of(value, rank) + (None,) * 2)[1] or 0 for value in values]
    if axis is None or axis.is_ref() or axis.as_int() % rank != 1 or len(values) < 2 or 0 in counts:
        return []
    ends = np.cumsum(counts).tolist()
    return [
        ConcatPart(concat, value, (*values[:number], *values[number + 1 :]), (end - count, end), channels, behind)
        for number, (value, count, end) in enumerate(zip(values, counts, ends, strict=True))
        if ends[-1] == channels
    ]


def _is_fixed_pad(node: ir.Node, opset: int) -> bool:
    known = (each is None or constant(each, opset) is not None for each in node.inputs[1:])
    return is_standard(node, "Pad") and all(known)


def _is_quantiser(node: ir.Node) -> bool:
    return any(is_quantiser(node, each) for each in ("DequantizeLinear", "QuantizeLinear"))


def _data_input(node: ir.Node, opset: int) -> int:
    """Which input of a node behind a Concat is the map."""
    if node.op_type not in BINARY:
        return 0
    return next((n for n, each in enumerate(node.inputs) if each and constant(each, opset) is None), 0)


def _stage(node: ir.Node, opset: int, rank: int, channels: int) -> Stage | None:
    standard = is_standard(node, node.op_type)
    return as_stage(node, _data_input(node, opset), opset, rank, channels) if standard else None


def _rows(parameter: Parameter, rows: Array) -> Parameter:
    if parameter.channel_axis is None:
        return parameter
    return replace(parameter, values=np.take(parameter.values, rows, axis=parameter.channel_axis))
