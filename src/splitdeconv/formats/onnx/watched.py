"""A model that tells the sizes of inner maps when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.work import is_layer

_PREFIX = "splitdeconv.size"  # of outputs


def unknown(model: ir.Model, shapes: Shapes) -> tuple[str, ...]:
    """The maps that layers of the model's own graph read or make and whose sizes inference does not find."""
    values = (value for node in model.graph if is_layer(node) for value in (node.inputs[0], node.outputs[0]))
    names = dict.fromkeys(value.name for value in values if value is not None and value.name)
    return tuple(name for name in names if name not in shapes.by_name or None in shapes.by_name[name])


def watched(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy whose outputs are the shapes of the values ``names``, and nothing else."""
    copy = model.clone()
    values = {value.name: value for node in copy.graph for value in (*node.inputs, *node.outputs) if value is not None}
    copy.graph.outputs.clear()
    for number, name in enumerate(names):
        node = ir.Node("", "Shape", [values[name]])
        node.outputs[0].name, node.outputs[0].type = f"{_PREFIX}{number}", ir.TensorType(ir.DataType.INT64)
        copy.graph.append(node)
        copy.graph.outputs.append(node.outputs[0])
    return copy


def sizes(names: Sequence[str], outputs: Mapping[str, Array]) -> dict[str, Shape]:
    """The shapes by name, from the outputs of the watched model."""
    found = {name: outputs.get(f"{_PREFIX}{number}") for number, name in enumerate(names)}
    return {name: tuple(array.tolist()) for name, array in found.items() if array is not None}
