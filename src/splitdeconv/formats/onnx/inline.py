"""Functions whose deconvs can only be read where they are called: their nodes are put in the place of the calls.

Before: a call of a function that is given the weight, or the attributes, of a ConvTranspose.
After: the function's nodes, with weight and attributes as that call has them.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.graph import is_standard, opset_of, walk

NOTE = "function '{}::{}' is inlined where anything is rewritten: its deconvs differ from call to call"


def inlined(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """The model, or a copy in which calls of such functions are written out, and notes of that."""
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
    return model, tuple(NOTE.format(each.domain, each.name) for each in helped)


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
