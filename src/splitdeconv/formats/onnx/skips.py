"""Skip connections: maps that a Concat puts beside a stretched one, in front of a convolution.

Before: Concat of a stretched map and others ─ [element-wise, Pad] ─ Conv.
After: a convolution of the stretched map, one of the others, and their sum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import OTHER, ZERO, read, zeros_around
from splitdeconv.formats.joined import JoinedPart, parts_of, way_behind
from splitdeconv.formats.onnx import upsampling
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import BINARY, Parameter, Stage, as_stage
from splitdeconv.formats.onnx.graph import Place, integer, is_quantiser, is_standard
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.written_convs import ROUNDED_TWICE

ConcatPart = JoinedPart[ir.Node, ir.Value]


def stage_of(part: ConcatPart, node: ir.Node, opset: int, rank: int, *, own: bool) -> Stage | None:
    """A node behind the Concat as it works on its part, or on the maps beside it; None where it moves elements."""
    stage, rows = _stage(node, opset, rank, part.total), part.numbers(own=own)
    return stage and replace(stage, parameters=tuple(each and _rows(each, rows) for each in stage.parameters))


def zeros_behind(part: ConcatPart, opset: int, rank: int) -> tuple[tuple[int, int], ...] | None:
    """Zeros that Pads behind the Concat put around each spatial axis; None where they pad with anything else."""
    shape = (1, 2, 3, 4, 5)[:rank]
    numbers = np.arange(np.prod(shape)).reshape(shape)
    for node in part.behind:
        if node.op_type != "Pad":
            continue
        known = [constant(each, opset) for each in node.inputs[1:]]
        padded = upsampling.padded(node, [numbers, *known], opset, ZERO, OTHER)
        if padded is None:
            return None
        numbers = padded
    return zeros_around(read(numbers, shape))


def parts_at(place: Place, channels: int, rank: int, shapes: Shapes) -> tuple[list[ConcatPart], str | None]:
    """The parts of the map of ``channels`` that a convolution reads, and why none can be taken: it is quantised anew.

    No parts where no Concat of channels is behind it.
    """

    def before(node: ir.Node) -> ir.Node | None:
        if not (_is_fixed_pad(node, place.opset) or _is_quantiser(node) or _stage(node, place.opset, rank, channels)):
            return None
        return _producer(node.inputs[_data_input(node, place.opset)], place)

    way = way_behind(_producer(place.node.inputs[0], place), lambda node: is_standard(node, "Concat"), before)
    if not way:
        return [], None
    concat, *behind = way
    values = [value for value in concat.inputs if value is not None]
    if integer(concat, "axis", 0) % rank != 1:
        return [], None
    counts = [(shapes.of(value, rank) + (None,) * 2)[1] or 0 for value in values]
    parts = parts_of(concat, values, counts, behind) if sum(counts) == channels else []
    return parts, ROUNDED_TWICE if any(map(_is_quantiser, behind)) else None


def _producer(value: ir.Value | None, place: Place) -> ir.Node | None:
    """What makes a value in the graph of ``place``."""
    node = None if value is None else value.producer()
    return node if node is not None and node.graph is place.graph else None


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
