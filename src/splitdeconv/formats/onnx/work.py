"""Multiply-accumulates of everything in an ONNX model that is not a deconv."""

from __future__ import annotations

import math

import onnx_ir as ir

from splitdeconv.deconv.ops import Shape
from splitdeconv.formats.onnx.graph import is_standard, places
from splitdeconv.formats.onnx.shapes import Shapes

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def other_macs(model: ir.Model, shapes: Shapes) -> int | None:
    """MACs of all convolutions and matrix products outside of functions; None where a size is unknown."""
    total = 0
    for place in places(model):
        if place.in_function or not any(is_standard(place.node, op_type) for op_type in _PRODUCTS):
            continue
        macs = _macs(place.node, shapes)
        if macs is None:
            return None
        total += macs
    return total


def _macs(node: ir.Node, shapes: Shapes) -> int | None:
    """Output elements times the length of each one's sum."""
    output = shapes.by_name.get(node.outputs[0].name or "")
    factor = shapes.by_name.get(node.inputs[1].name or "") if len(node.inputs) > 1 and node.inputs[1] else None
    if output is None or factor is None or None in output or None in factor:
        return None
    return math.prod(size or 0 for size in output) * _length(node, factor)


def _length(node: ir.Node, factor: Shape) -> int:
    """Number of products in one output element, from the shape of the weight or second factor."""
    sizes = [size or 0 for size in factor]
    if node.op_type == "Conv":
        return math.prod(sizes[1:])
    transposed = node.attributes.get("transB")
    if node.op_type == "Gemm" and transposed is not None and transposed.as_int():
        return sizes[-1]
    return sizes[-2] if len(sizes) > 1 else sizes[0]
