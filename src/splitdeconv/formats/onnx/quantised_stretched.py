"""Quantised convolutions of stretched maps: the quantisers on the way from the map, and what they are written as.

    DequantizeLinear(x) ─ [QuantizeLinear ─ DequantizeLinear] ─ stretching ─ [QuantizeLinear ─ DequantizeLinear] ─┐
    DequantizeLinear(w) ──────────────────────────────────────────────────────────────────────────────────────────┤
    DequantizeLinear(b), or a float bias ───────────────────────────────────────────────── Conv ─ … ─ QuantizeLinear

Moving numbers, and quantising them one by one, commute; a quantised zero is the zero-point. So if all quantisers on the
way have the same parameters, the map is stored in them before it is stretched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Size
from splitdeconv.deconv.weights import Quantisation
from splitdeconv.formats.onnx.constants import constant, known_constant
from splitdeconv.formats.onnx.epilogue import find_tail
from splitdeconv.formats.onnx.graph import Place, dequantiser_of, integer, is_standard
from splitdeconv.formats.onnx.quantised import Group, Qdq
from splitdeconv.formats.onnx.quantised_values import Stored, dequantize, quantize, requantise
from splitdeconv.formats.onnx.quantisers import (
    UnsupportedError,
    per_tensor,
    quantise_behind,
    read_values,
)
from splitdeconv.formats.onnx.stretched import StretchedValue
from splitdeconv.formats.onnx.stretched_emit import write_borders, write_order, write_stages
from splitdeconv.formats.onnx.writer import Writer

_FIRST_WITH_BORDERS = 11  # opset of a Pad of stored numbers


def on_the_way(stretched: StretchedValue) -> list[ir.Node]:
    """All QuantizeLinear and DequantizeLinear nodes between the map and the convolution, the map's first."""
    return [node for node in reversed(stretched.nodes) if node.op_type in ("DequantizeLinear", "QuantizeLinear")]


def read_stretched_qdq(place: Place, stretched: StretchedValue, sizes: Sequence[Size]) -> Qdq | None:
    """The quantised convolution of a stretched map at ``place``, or None where its sums are not stored as integers.

    Args:
        place: the convolution.
        stretched: the map.
        sizes: of its output, None where unknown.

    Raises:
        UnsupportedError: it is quantised in a way that cannot be carried over.
    """
    weight, turned = place.node.inputs[1], is_standard(place.node, "ConvTranspose")
    from_weight, quantisers = dequantiser_of(weight), on_the_way(stretched)
    from_x = quantisers[-1] if quantisers else dequantiser_of(stretched.source)
    kernel = None if from_weight is None else constant(from_weight.inputs[0], place.opset)
    if from_x is None or from_weight is None or kernel is None:
        return None
    channels = kernel.shape[1] * integer(place.node, "group", 1) if turned else kernel.shape[0]
    tail = find_tail(place, kernel.ndim, channels, sizes)
    output = quantise_behind(tail.nodes[-1] if tail.nodes else place.node)
    if output is None or output.graph is not place.node.graph:
        return None
    if from_x.op_type == "QuantizeLinear":
        raise UnsupportedError("its map is not dequantised again behind the stretching")
    values = read_values(place, from_x, from_weight, output, kernel, 1 if turned else 0)
    if reason := _why_not(place, stretched, quantisers, values):
        raise UnsupportedError(reason)
    return Group(place, from_x, from_weight, output, values).read(tail, sizes, channels)


def _why_not(
    place: Place, stretched: StretchedValue, quantisers: Sequence[ir.Node], values: Quantisation
) -> str | None:
    if any(_meaning(node, place.opset) != _meaning(quantisers[-1], place.opset) for node in quantisers):
        return "its map is quantised anew between the stretching and the convolution, with another scale or zero-point"
    if stretched.stages:
        operators = ", ".join(stage.node.op_type for stage in stretched.stages)
        return f"{operators} between the stretching and a quantised convolution would be rounded elsewhere"
    if values.is_half:
        return "its scales are float16, which rounds the sums of its weights"
    if any("16" in name for name in (values.x_type, values.y_type)):
        return "its maps have 16 bits, which runtimes neither pad nor repeat"
    if values.by_input:
        return "its weights have a scale for each input channel, wanted one for each output channel or one for all"
    if not stretched.is_plain and place.opset < _FIRST_WITH_BORDERS:
        return f"Pad of opset {place.opset} takes no quantised values (from {_FIRST_WITH_BORDERS} on)"
    return None


def _meaning(node: ir.Node, opset: int) -> tuple[float, int]:
    """Scale, and the zero-point's place in its type's range: what int8 and uint8 with the same numbers share."""
    scale, zero, name = per_tensor(node, opset, "map")
    return float(scale), zero - int(np.iinfo(name).min)


def write_stored_front(writer: Writer, stretched: StretchedValue, source: ir.Value, values: Quantisation) -> ir.Value:
    """The stored map that the program reads, from the stretched map's source; as :func:`.write_front` of float ones."""
    stored = _stored(writer, stretched, source, values)
    return write_borders(writer, stretched, write_order(writer, stretched, stored))


def _stored(writer: Writer, stretched: StretchedValue, source: ir.Value, values: Quantisation) -> ir.Value:
    """The source in the quantisation of the convolution's map."""
    quantisers, node = on_the_way(stretched), dequantiser_of(source)
    if quantisers and quantisers[0].op_type == "DequantizeLinear":
        scale, zero, name = per_tensor(quantisers[0], writer.opset, "map")
        return requantise(writer, Stored(source, name, scale, zero), values.x_type).value
    if node is not None and node.inputs[0] is not None:
        scale, zero, name = per_tensor(node, writer.opset, "map")
        wanted = float(values.x_scale), values.x_zero - int(np.iinfo(values.x_type).min)
        if _meaning(node, writer.opset) == wanted:
            return requantise(writer, Stored(node.inputs[0], name, scale, zero), values.x_type).value
    return quantize(writer, source, values.x_scale, values.x_zero, values.x_type)


def write_as_the_model_has_it(writer: Writer, place: Place, qdq: Qdq, value: ir.Value) -> ir.Value:
    """The model's own quantised convolution of a stretched map, which is ``value``; returns the stored output."""
    inputs = [value, *(_copied_constant(writer, each) for each in place.node.inputs[1:])]
    value = write_stages(writer, qdq.stages, writer.copy(place.node, inputs))
    quant = qdq.values
    return quantize(writer, value, quant.y_scale, quant.y_zero, quant.y_type)


def real_source(writer: Writer, stretched: StretchedValue, x: ir.Value, values: Quantisation) -> ir.Value:
    """What the model's own nodes read, from the stored map ``x``."""
    quantisers = on_the_way(stretched)
    if quantisers and quantisers[0].op_type == "DequantizeLinear":
        return x
    return dequantize(writer, Stored(x, values.x_type, values.x_scale, values.x_zero))


def _copied_constant(writer: Writer, value: ir.Value | None) -> ir.Value | None:
    """A constant behind its own DequantizeLinear, if it has one."""
    if value is None:
        return None
    node = dequantiser_of(value)
    if node is None:
        return _copied(writer, value)
    return writer.copy(node, [None if each is None else _copied(writer, each) for each in node.inputs])


def _copied(writer: Writer, value: ir.Value) -> ir.Value:
    return writer.array("constant", known_constant(value, writer.opset))


def is_stored(stretched: StretchedValue, value: ir.Value) -> bool:
    """Whether a value on the way of a quantised site holds stored numbers."""
    while value is not stretched.source and (node := value.producer()) is not None:
        if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            return node.op_type == "QuantizeLinear"
        maps = [
            each for each in node.inputs if each is stretched.source or (each and each.producer() in stretched.nodes)
        ]
        if not maps or maps[0] is None:
            return False
        value = maps[0]
    quantisers = on_the_way(stretched)
    return bool(quantisers) and quantisers[0].op_type == "DequantizeLinear"
