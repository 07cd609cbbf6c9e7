"""Writing what stands between a map and the program that takes the place of a stretched convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import Stage
from splitdeconv.formats.onnx.movement import is_number
from splitdeconv.formats.onnx.stretched import Stretched
from splitdeconv.formats.onnx.writer import Writer


def write_front(writer: Writer, stretched: Stretched, source: ir.Value) -> ir.Value:
    """The map that the program reads, from the stretched map's source.

    Before: source ─ stretching ─ element-wise nodes ─ Conv.
    After: source ─ [Transpose] ─ element-wise nodes on the small map ─ [Pad in mode edge, Slice] ─ program.
    """
    value = source
    if stretched.perm != tuple(range(len(stretched.perm))):
        value = writer.op("Transpose", [value], {"perm": list(stretched.perm)})
    return write_borders(writer, stretched, write_stages(writer, stretched.stages, value))


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


def write_borders(writer: Writer, stretched: Stretched, value: ir.Value) -> ir.Value:
    """Copies of the border pixels, and crops."""
    begin, end = zip((0, 0), (0, 0), *stretched.borders, strict=True)
    if max(*begin, *end) > 0:
        grown = [max(0, count) for count in (*begin, *end)]
        inputs = [value, writer.integers("pads", grown)] if writer.opset >= 11 else [value]
        attributes = {"mode": "edge"} if writer.opset >= 11 else {"mode": "edge", "pads": grown}
        value = writer.op("Pad", inputs, attributes)
    cuts = [[max(0, -count) for count in counts] for counts in (begin, end)]
    return writer.slice(value, *cuts) if any(map(any, cuts)) else value


def copy_stretching(writer: Writer, stretched: Stretched, wanted: ir.Value, x: ir.Value, opset: int) -> ir.Value | None:
    """The model's own nodes from ``x``, in the convolution's layout, to ``wanted``; None if others are needed too."""
    value = x
    if stretched.perm != tuple(range(len(stretched.perm))):
        value = writer.op("Transpose", [x], {"perm": np.argsort(stretched.perm).tolist()})
    known: dict[ir.Value, ir.Value] = {stretched.source: value}
    return _copied(writer, wanted, known, stretched.nodes, opset)


def _copied(
    writer: Writer, value: ir.Value, known: dict[ir.Value, ir.Value], own: tuple[ir.Node, ...], opset: int
) -> ir.Value | None:
    if value in known:
        return known[value]
    content = constant(value, opset)
    if content is not None:
        known[value] = writer.array("constant", content)
        return known[value]
    node = value.producer()
    if node is None or not (node in own or is_number(value, opset)):
        return None
    inputs: list[ir.Value | None] = []
    for source in node.inputs:
        copied = None if source is None else _copied(writer, source, known, own, opset)
        if source is not None and copied is None:
            return None
        inputs.append(copied)
    for old, new in zip(node.outputs, writer.copy_all(node, inputs), strict=True):
        known[old] = new
    return known[value]
