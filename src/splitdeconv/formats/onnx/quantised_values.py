"""Stored values in the graph: quantising and dequantising them, and moving them between int8 and uint8.

int8 becomes uint8 by adding 128 to numbers and zero-points alike, which changes no real number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx.constants import drop_unused
from splitdeconv.formats.onnx.graph import MICROSOFT, is_quantiser
from splitdeconv.formats.onnx.writer import Writer, take_over

SHIFT = 128  # between an int8 and a uint8 with the same meaning
_QUANTISERS_OF_16_BIT = 21  # opset


@dataclass(frozen=True)
class Stored:
    """A stored value with its meaning.

    Attributes:
        value: in the graph.
        dtype: its type, a NumPy name.
        scale, zero: of the real numbers.
    """

    value: ir.Value
    dtype: str
    scale: Array
    zero: int


def requantise(writer: Writer, stored: Stored, dtype: str) -> Stored:
    """The same numbers stored as the other 8-bit type: exact, because scale and distance to the zero-point stay."""
    if stored.dtype == dtype:
        return stored
    zero = stored.zero + (SHIFT if dtype == "uint8" else -SHIFT)
    real = dequantize(writer, stored)
    value = quantize(writer, real, stored.scale, zero, dtype)
    return Stored(value, dtype, stored.scale, zero)


def hand_over(writer: Writer, stored: Stored, old: ir.Value, dtype: str) -> ir.Value:
    """The output that takes the place of ``old``: a ``dtype`` too, or of the other type where all readers can be told.

    A reader that is a DequantizeLinear gives the same real numbers for the other type with its own zero-point.
    """
    readers = None if stored.dtype == dtype else _told_readers(old)
    if readers is None:
        stored = requantise(writer, stored, dtype)
    take_over(old, stored.value)
    # A model need not state it, and a DequantizeLinear behind it that has no zero-point is read by it.
    stored.value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(stored.dtype)))
    if readers is None:
        return stored.value
    zero = writer.array("zero_point", np.asarray(stored.zero, stored.dtype))
    for node in readers:
        _set_zero_point(node, zero)
    return stored.value


def _told_readers(value: ir.Value) -> list[ir.Node] | None:
    """The readers, where all are DequantizeLinear nodes of its graph, to which a zero-point can be given; else None."""
    uses = tuple(value.uses())
    told = all(
        use.idx == 0 and is_quantiser(use.node, "DequantizeLinear") and use.node.graph is value.graph for use in uses
    )
    return list(dict.fromkeys(use.node for use in uses)) if uses and told and not value.is_graph_output() else None


def _set_zero_point(node: ir.Node, zero: ir.Value) -> None:
    """Another zero-point for a DequantizeLinear; the old one goes if nothing else reads it."""
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    old = node.inputs[2]
    node.replace_input_with(2, zero)
    drop_unused(old)


def dequantize(writer: Writer, stored: Stored) -> ir.Value:
    """The real numbers of a stored value."""
    zero = writer.array("zero_point", np.asarray(stored.zero, stored.dtype))
    inputs = [stored.value, writer.array("scale", stored.scale), zero]
    return writer.op("DequantizeLinear", inputs, domain=quantiser_domain(writer, stored.dtype))


def quantize(writer: Writer, value: ir.Value, scale: Array, zero: int, dtype: str) -> ir.Value:
    """Real numbers stored as ``dtype``."""
    inputs = [value, writer.array("scale", scale), writer.array("zero_point", np.asarray(zero, dtype))]
    return writer.op("QuantizeLinear", inputs, domain=quantiser_domain(writer, dtype))


def quantiser_domain(writer: Writer, dtype: str) -> str:
    """Whose DequantizeLinear and QuantizeLinear knows the type."""
    return MICROSOFT if "16" in dtype and writer.opset < _QUANTISERS_OF_16_BIT else ""
