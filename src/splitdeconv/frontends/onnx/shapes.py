"""Sizes of all maps, from the sizes of the model's inputs. Sizes that the file states for maps are not believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from splitdeconv.errors import UsageError
from splitdeconv.frontends.onnx.graph import is_standard, places
from splitdeconv.ops import Shape

_SMALL = 1024  # bytes; larger constants never hold a shape, and inference does without their values

_HIDDEN = "splitdeconv.hidden"  # a domain that inference does not know


@dataclass(frozen=True)
class Shapes:
    """Shapes by value name; of names that are used twice, what both have in common. Functions have no part in it."""

    by_name: Mapping[str, Shape]

    def of(self, value: ir.Value | None, rank: int) -> Shape:
        """Shape of a value that must have ``rank`` axes; all sizes unknown where inference found nothing."""
        found = None if value is None else self.by_name.get(value.name or "")
        return (None,) * rank if found is None else found


def infer(model: ir.Model, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Shapes:
    """Run ONNX's shape inference from the inputs on.

    Args:
        model: not changed.
        in_shapes: sizes for inputs, instead of those that the model states.

    Raises:
        UsageError: an unknown input, or a shape of another rank.
    """
    proto = _skeleton(model)
    for name, shape in (in_shapes or {}).items():
        _set_input(proto.graph, name, shape)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # inference is an aid: without it the sizes are unknown, which everything supports
        inferred = proto
    return Shapes(_merged(_shapes(inferred.graph)))


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model without large constants' values and without any stated shape but those of its inputs."""
    clone = model.clone()
    for graph in clone.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _without_values(value.const_value)
    for place in places(clone):
        for output in place.node.outputs:
            output.shape = None
        if is_standard(place.node, "Constant"):
            _empty_constant(place.node)
        elif is_standard(place.node, "ConvTranspose"):
            _fix_output_shape(place.node)
    clone.opset_imports[_HIDDEN] = 1
    return ir.to_proto(clone)


def _without_values(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Type and shape of a large tensor: inference takes it for one that lies in another file."""
    if tensor.nbytes <= _SMALL:
        return tensor
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor("none", 0, tensor.nbytes, tensor.dtype, shape=shape, name=tensor.name or "")


def _empty_constant(node: ir.Node) -> None:
    value = node.attributes.get("value")
    if value is not None and not value.is_ref():
        node.attributes["value"] = ir.AttrTensor("value", _without_values(value.as_tensor()))


def _fix_output_shape(node: ir.Node) -> None:
    """State the sizes that ``output_shape`` fixes, and hide the node: inference drops sizes below the input's."""
    sizes = node.attributes.get("output_shape")
    kernel = node.inputs[1] if len(node.inputs) > 1 else None
    if sizes is None or sizes.is_ref() or not sizes.as_ints() or kernel is None or kernel.shape is None:
        return
    spatial = sizes.as_ints()[-(len(kernel.shape) - 2) :]
    node.domain = _HIDDEN
    node.outputs[0].shape = ir.Shape([None, None, *spatial])
    node.outputs[0].type = ir.TensorType(kernel.dtype or ir.DataType.FLOAT)


def _set_input(graph: onnx.GraphProto, name: str, shape: tuple[int, ...]) -> None:
    for value in graph.input:
        if value.name == name:
            dims = value.type.tensor_type.shape.dim
            if len(dims) not in (0, len(shape)):
                raise UsageError(
                    f"input '{name}' has {len(dims)} axes, the shape given has {len(shape)}: {list(shape)}"
                )
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(onnx.helper.make_tensor_value_info(name, kind, shape))
            return
    names = ", ".join(f"'{value.name}'" for value in graph.input)
    raise UsageError(f"the model has no input '{name}'; it has {names}")


def _merged(shapes: Iterable[tuple[str, Shape]]) -> dict[str, Shape]:
    """One shape for each name. Branches of an If may use a name twice; a size that differs is then unknown."""
    merged: dict[str, Shape] = {}
    ambiguous: set[str] = set()
    for name, shape in shapes:
        known = merged.setdefault(name, shape)
        if len(known) != len(shape):
            ambiguous.add(name)
        elif known != shape:
            merged[name] = tuple(one if one == other else None for one, other in zip(known, shape, strict=True))
    return {name: shape for name, shape in merged.items() if name not in ambiguous}


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if value.type.HasField("tensor_type") and tensor.HasField("shape"):
            yield value.name, tuple(_size(dim) for dim in tensor.shape.dim)
    for initializer in graph.initializer:
        yield initializer.name, tuple(initializer.dims)
    for node in graph.node:
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node:
                    yield from _shapes(body)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
