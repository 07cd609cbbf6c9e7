"""Models whose deconvs can be read: those of other domains whose meaning is known, and those in functions."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from splitdeconv.formats.onnx.constants import constant, drop_unused
from splitdeconv.formats.onnx.graph import MICROSOFT, Place, is_standard, opset_of, places, walk

DYNAMIC_PADS = "ConvTransposeWithDynamicPads"
_PADS, _BIAS = 2, 3  # places of its inputs
_INLINED = "function '{}::{}' is inlined where anything is rewritten: its deconvs differ from call to call"


def readable(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The model, or a copy without the operators and functions whose deconvs could not be read; and notes."""
    model, known = _standardised(model)
    model, written_out = _inlined(model) if model.functions else (model, ())
    return model, (*known, *written_out)


def is_dynamic(node: ir.Node) -> bool:
    """Whether a node is a ConvTranspose of ONNX Runtime that takes its pads as an input."""
    return node.domain == MICROSOFT and node.op_type == DYNAMIC_PADS


def _standardised(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
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


def _inlined(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The model, or a copy in which calls of functions are written out whose deconvs can only be read there; and notes.

    Before: a call of a function that is given the weight, or the attributes, of a ConvTranspose.
    After: the function's nodes, with weight and attributes as that call has them.
    """
    helped: list[ir.Function] = []
    while functions := [each for each in model.functions.values() if _is_helped(each, model)]:
        names = {each.identifier() for each in functions}
        copy = model.clone()
        try:
            InlinePass(lambda function, names=names: function.identifier() in names)(copy)  # type: ignore[misc]
        except Exception:  # bodies as attributes, functions that call themselves: they stay as they are
            break
        if not names.isdisjoint(copy.functions):  # what nothing calls
            break
        model = copy
        helped += functions
    return model, tuple(_INLINED.format(each.domain, each.name) for each in helped)


def _is_helped(function: ir.Function, model: ir.Model) -> bool:
    """Whether a deconv in it has a weight or an attribute of the call; nodes of another opset stay where they are."""
    if any(model.opset_imports.get(domain, version) != version for domain, version in function.opset_imports.items()):
        return False
    opset = opset_of(function.opset_imports) or opset_of(model.opset_imports)
    return any(
        is_standard(place.node, "ConvTranspose")
        and (
            any(value is not None and constant(value, opset) is None for value in place.node.inputs[1:])
            or any(attribute.is_ref() for attribute in place.node.attributes.values())
        )
        for place in walk(function, "", opset, in_function=True)
    )
