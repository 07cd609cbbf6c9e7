"""Deconvs of other domains whose meaning is known, as the standard operator."""

from __future__ import annotations

import onnx_ir as ir

from splitdeconv.formats.onnx.constants import constant, drop_unused
from splitdeconv.formats.onnx.graph import MICROSOFT, Place, places

DYNAMIC_PADS = "ConvTransposeWithDynamicPads"
_PADS, _BIAS = 2, 3  # places of its inputs


def is_dynamic(node: ir.Node) -> bool:
    """Whether a node is a ConvTranspose of ONNX Runtime that takes its pads as an input."""
    return node.domain == MICROSOFT and node.op_type == DYNAMIC_PADS


def standardised(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The model with standard nodes where such a node has constant pads, and what is said of that; itself without any.

    Before: ``com.microsoft::ConvTransposeWithDynamicPads(x, weight, pads, bias)``.
    After: ``ConvTranspose(x, weight, bias)`` with the attribute ``pads``.
    Source: ``ConvTransposeAttributes::PrepareForCompute`` in ONNX Runtime, which differs in nothing else.
    """
    if not any(is_dynamic(place.node) and _pads(place) is not None for place in places(model)):
        return model, ()
    copy, said = model.clone(), []
    for place in list(places(copy)):
        pads = _pads(place) if is_dynamic(place.node) else None
        if pads is not None:
            said.append(f"'{place.node.name or place.node.outputs[0].name}' is a {DYNAMIC_PADS} with constant pads")
            _replace(place.node, pads)
    return copy, (f"read as ConvTranspose, and written so where anything is rewritten: {'; '.join(said)}",)


def _pads(place: Place) -> list[int] | None:
    """Its pads where they are constant; None where a caller or another node gives them."""
    inputs = place.node.inputs
    if place.opset == 0 or len(inputs) < 2 or "pads" in place.node.attributes:
        return None
    value = inputs[_PADS] if len(inputs) > _PADS else None
    if value is None:
        return []
    known = None if value.is_graph_input() else constant(value, place.opset)
    return None if known is None else [int(pad) for pad in known.reshape(-1)]


def _replace(node: ir.Node, pads: list[int]) -> None:
    old = node.inputs[_PADS] if len(node.inputs) > _PADS else None
    bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
    node.resize_inputs(2 if bias is None else 3)
    if bias is not None:
        node.replace_input_with(2, bias)
    node.domain, node.op_type = "", "ConvTranspose"
    if pads:
        node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    drop_unused(old)
