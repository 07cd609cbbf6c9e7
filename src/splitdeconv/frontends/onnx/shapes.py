"""Sizes of all maps, from the sizes of the model's inputs. Sizes that the file states for maps are not believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from splitdeconv.errors import UsageError
from splitdeconv.ops import Shape

_SMALL = 1024  # bytes; larger constants never hold a shape, and inference does without their values


@dataclass(frozen=True)
class Shapes:
    """Shapes by value name; names are unique within a model outside of functions."""

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
    return Shapes(dict(_shapes(inferred.graph)))


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model without large constants and without any stated shape but those of its inputs."""
    clone = model.clone()
    for graph in clone.graphs():
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if tensor is not None and tensor.nbytes > _SMALL:
                value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
                del graph.initializers[value.name or ""]
                if not value.is_graph_input():
                    graph.inputs.append(value)
    for node in clone.graph.all_nodes():
        for output in node.outputs:
            output.shape = None
    return ir.to_proto(clone)


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
