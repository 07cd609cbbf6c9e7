"""Writing what stands between a map and the program that takes the place of a stretched convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import Stage
from splitdeconv.formats.onnx.movement import is_number
from splitdeconv.formats.onnx.skips import ConcatPart, stage_of
from splitdeconv.formats.onnx.stretched import StretchedValue
from splitdeconv.formats.onnx.writer import Writer


def write_front(writer: Writer, stretched: StretchedValue, source: ir.Value) -> ir.Value:
    """The map that the program reads, from the stretched map's source.

    Before: source ─ stretching ─ element-wise nodes ─ Conv.
    After: source ─ [Transpose] ─ element-wise nodes on the small map ─ [Pad in mode edge, Slice] ─ program.
    """
    value = write_order(writer, stretched, source)
    return write_borders(writer, stretched, write_stages(writer, stretched.stages, value))


def write_order(writer: Writer, stretched: StretchedValue, source: ir.Value) -> ir.Value:
    """The source with its axes in the convolution's order, and channels that count as items of the batch there."""
    if stretched.folded is not None:
        return _folded(writer, stretched, source, stretched.folded[1])
    return source if stretched.is_in_order else writer.op("Transpose", [source], {"perm": list(stretched.perm)})


def _folded(writer: Writer, stretched: StretchedValue, value: ir.Value, channels: int) -> ir.Value:
    """The map with so many channels, all others in its batch."""
    return writer.op("Reshape", [value, writer.integers("shape", [-1, channels, *[0] * (len(stretched.perm) - 2)])])


def write_stages(writer: Writer, stages: Sequence[Stage], value: ir.Value) -> ir.Value:
    """Element-wise nodes with their parameters as they are."""
    for stage in stages:
        inputs: list[ir.Value | None] = [
            None if parameter is None else writer.array(f"{stage.node.op_type}_parameter", parameter.values)
            for parameter in stage.parameters
        ]
        inputs[stage.data_input] = value
        value = writer.copy(stage.node, inputs)
    return value


def write_borders(writer: Writer, stretched: StretchedValue, value: ir.Value) -> ir.Value:
    """Copies of the border pixels, and crops."""
    begin, end = zip((0, 0), (0, 0), *stretched.borders, strict=True)
    if max(*begin, *end) > 0:
        grown = [max(0, count) for count in (*begin, *end)]
        inputs = [value, writer.integers("pads", grown)] if writer.opset >= 11 else [value]
        attributes = {"mode": "edge"} if writer.opset >= 11 else {"mode": "edge", "pads": grown}
        value = writer.op("Pad", inputs, attributes)
    cuts = [[max(0, -count) for count in counts] for counts in (begin, end)]
    return writer.slice(value, *cuts) if any(map(any, cuts)) else value


def beside_stages(part: ConcatPart, opset: int, rank: int) -> list[Stage]:
    """The element-wise nodes behind a Concat, as they work on the maps beside a part of it."""
    found = (stage_of(part, node, opset, rank, own=False) for node in part.behind)
    return [stage for stage in found if stage is not None]


def write_beside(writer: Writer, stretched: StretchedValue, maps: Sequence[ir.Value]) -> list[ir.Value]:
    """The map that the program reads beside the stretched one; nothing where there is none.

    Before: Concat of the stretched map and ``maps`` ─ [element-wise, Pad] ─ Conv.
    After: [Concat of ``maps``] ─ [element-wise, Pad unless the convolution takes it in] ─ program.
    """
    part = stretched.part
    if part is None:
        return []
    value = maps[0] if len(maps) == 1 else writer.op("Concat", maps, {"axis": 1})
    for node in part.behind:
        stage = stage_of(part, node, writer.opset, len(stretched.perm), own=False)
        if stage is not None:
            value = write_stages(writer, [stage], value)
        elif stretched.zeros is None:
            known = [constant(each, writer.opset) for each in node.inputs[1:]]
            fixed = [None if each is None else writer.array("pads", each) for each in known]
            value = writer.copy(node, [value, *fixed])
    return [value]


class StretchingCopy:
    """The model's own nodes between a map and a convolution, copied once each.

    Args:
        writer: of the copies.
        stretched: what is copied.
        x: the small map in the convolution's layout.
        beside: the map beside the stretched one, or nothing.
    """

    def __init__(self, writer: Writer, stretched: StretchedValue, x: ir.Value, beside: Sequence[ir.Value] = ()) -> None:
        self._writer, self._stretched = writer, stretched
        source = x
        if stretched.folded is not None:
            source = _folded(writer, stretched, x, stretched.folded[0])
        if not stretched.is_in_order:
            source = writer.op("Transpose", [x], {"perm": np.argsort(stretched.perm).tolist()})
        self._known: dict[ir.Value, ir.Value] = {stretched.source: source}
        self._beside = beside

    def of(self, value: ir.Value) -> ir.Value | None:
        """The copy of a value on the way; None, and nothing written, where other nodes are needed for it too."""
        mark = len(self._writer.nodes)
        copied = self._copied(value)
        if copied is None:
            del self._writer.nodes[mark:]
        return copied

    def _copied(self, value: ir.Value) -> ir.Value | None:
        if value in self._known:
            return self._known[value]
        content = constant(value, self._writer.opset)
        if content is not None:
            self._known[value] = self._writer.array("constant", content)
            return self._known[value]
        node, part = value.producer(), self._stretched.part
        if part is not None and node is part.concat:
            return self._concatenated(part)
        if node is None or not (node in self._stretched.nodes or is_number(value, self._writer.opset)):
            return None
        inputs = [source if source is None else self._copied(source) for source in node.inputs]
        if any(new is None and old is not None for old, new in zip(node.inputs, inputs, strict=True)):
            return None
        self._known |= dict(zip(node.outputs, self._writer.copy_all(node, inputs), strict=True))
        return self._known[value]

    def _concatenated(self, part: ConcatPart) -> ir.Value | None:
        """The stretched map among those beside it, which are one map here."""
        (value,) = part.concat.outputs
        own, (beside,), rank = self._copied(part.value), self._beside, len(self._stretched.perm)
        if own is None:
            return None
        first, rest = part.channels[0], part.total - part.channels[1]
        maps = [beside, own] if first else [own, beside]
        if first and rest:
            cuts = [[0, count, *(0,) * (rank - 2)] for count in (rest, first)]
            none = [0] * rank
            maps = [self._writer.slice(beside, none, cuts[0]), own, self._writer.slice(beside, cuts[1], none)]
        self._known[value] = self._writer.op("Concat", maps, {"axis": 1})
        return self._known[value]
