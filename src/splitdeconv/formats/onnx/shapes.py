"""Sizes of all maps, from the sizes of the model's inputs. Sizes that the file states for maps are not believed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir import serde

from splitdeconv.deconv.ops import Shape
from splitdeconv.errors import UsageError
from splitdeconv.formats.onnx.constants import bytes_of, dims_of
from splitdeconv.formats.onnx.geometry import has_other_sizes, stated_integers
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, is_standard, places
from splitdeconv.formats.onnx.kept import to_proto

_SMALL = 1024  # bytes; larger constants never hold a shape, and inference does without their values

_MOST_NODES = 10**6  # functions that call others many times over are not written out beyond it
_MADE_UP = "unk__"
_HIDDEN = "splitdeconv.hidden"  # a domain that inference does not know


@dataclass(frozen=True)
class Shapes:
    """Shapes by value name; of names that are used twice, what both have in common. Functions have no part in it.

    Attributes:
        by_name: shapes, None for sizes that are unknown.
        types: ONNX's numbers of element types, by value name.
        symbols: for values in the model's own graph, what the model calls their sizes; equal names are equal sizes.
    """

    by_name: Mapping[str, Shape]
    types: Mapping[str, int] = field(default_factory=dict)
    symbols: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)

    def type_of(self, value: ir.Value) -> ir.DataType | None:
        """Element type of a value, or None where inference found none."""
        found = self.types.get(value.name or "")
        return ir.DataType(found) if found else None

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
    return _read(_inferred(_inlined(proto)).graph)


def state(nodes: Sequence[ir.Node], opset: int, shapes: Shapes) -> None:
    """Give what new nodes make types and shapes, as far as inference finds them.

    Args:
        nodes: in order; their outputs are changed.
        opset: version of the standard operators.
        shapes: of the values that they read.
    """
    domains = {node.domain: 1 for node in nodes} | {"": opset, _HIDDEN: 1}
    imports = [onnx.helper.make_opsetid(*each) for each in domains.items()]
    proto = onnx.ModelProto(ir_version=onnx.IR_VERSION, opset_import=imports)
    made = {value for node in nodes for value in node.outputs}
    for value in dict.fromkeys(value for node in nodes for value in node.inputs if value is not None):
        if value.const_value is not None and value not in made:
            _add_constant(proto.graph, value.name or "", value.const_value)
        elif value not in made and (kind := value.dtype or shapes.types.get(value.name or "")):  # other sites set types
            sizes = shapes.symbols.get(value.name or "", shapes.by_name.get(value.name or ""))
            named = None if sizes is None else list(map(_named, sizes))
            proto.graph.input.append(onnx.helper.make_tensor_value_info(value.name or "", kind, named))
    _add_nodes(proto.graph, nodes)
    found = _read(_inferred(proto).graph)
    for value in made:
        kind, name = found.type_of(value), value.name or ""
        if value.type is None and kind is not None:
            value.type = ir.TensorType(kind)
            if name in found.by_name:
                value.shape = ir.Shape(map(_named, found.symbols[name]))


def _named(size: int | str | None) -> int | str | None:
    """A size as it may be stated: names that inference has made up mean something in that run only."""
    return None if isinstance(size, str) and size.startswith(_MADE_UP) else size or None


def _forget_negative_sizes(graph: onnx.GraphProto) -> None:
    """Some exporters write −1 for a size that is open."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.Clear()


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the nodes of its functions in the place of their calls.

    Functions of another opset stay: inference goes into them, where a Slice of a negative size aborts it as elsewhere.
    """
    if not proto.functions:
        return proto
    if _count_inlined(proto) > _MOST_NODES:
        del proto.functions[:]  # what they make is unknown
        return proto
    proto = onnx.inliner.inline_local_functions(proto)
    for function in proto.functions:
        function.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))
        for node in _nodes(function):
            if _is_slice(node):
                node.domain = _HIDDEN
    return proto


def _is_slice(node: onnx.NodeProto) -> bool:
    return node.op_type == "Slice" and node.domain in STANDARD_DOMAINS


def _count_inlined(proto: onnx.ModelProto) -> float:
    """How many nodes the model has when every call is written out; infinitely many where a function calls itself."""
    functions = {(each.domain, each.name): each for each in proto.functions}
    counts: dict[tuple[str, str], float] = {}

    def count(nodes: Iterable[onnx.NodeProto]) -> float:
        return sum(1 + called((node.domain, node.op_type)) for node in nodes)

    def called(name: tuple[str, str]) -> float:
        if name in functions and name not in counts:
            counts[name] = math.inf  # until its own calls are counted
            counts[name] = count(_nodes(functions[name]))
        return counts.get(name, 0)

    return count(_nodes(proto.graph))


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the sizes of its values, as far as ONNX's inference finds them.

    It aborts the whole process at a Slice of a negative size, which pads larger than a map make (onnx 1.23.2). So each
    Slice is hidden from it until its input is known to have none.
    """
    hidden = [node for node in _nodes(proto.graph) if _is_slice(node)]
    for node in hidden:
        node.domain = _HIDDEN
    while True:
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
        except Exception:  # inference is an aid: without it the sizes are unknown, which everything supports
            return proto
        held = _graphs(inferred.graph) if hidden else ()
        sound = {name for graph in held for name in _without_negative_sizes(graph)}
        ready = [node for node in hidden if node.input and node.input[0] in sound]
        for node in ready:
            node.domain = ""
        hidden = [node for node in hidden if node.domain == _HIDDEN]
        if not ready and not _batches_filled(proto.graph, inferred.graph):
            return inferred


def _nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or function and of its bodies."""
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _nodes(body)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies in it."""
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def _without_negative_sizes(graph: onnx.GraphProto) -> Iterator[str]:
    """The names of the values that have a shape, of which no size is negative."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.dim_value >= 0 for dim in tensor.shape.dim):
            yield value.name
    for initializer in graph.initializer:
        yield initializer.name


def _batches_filled(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> bool:
    """Whether hidden nodes of the graph have got the batches of their inputs, so that inference finds more."""
    stated = {value.name: sizes[0] for value in graph.value_info if (sizes := value.type.tensor_type.shape.dim)}
    if not stated:
        return False
    known, filled = _read(inferred).by_name, False
    for node in graph.node:
        batch = known.get(node.input[0], ())[:1] if node.domain == _HIDDEN and node.input else ()
        if batch and batch[0] and node.output[0] in stated and not stated[node.output[0]].dim_value:
            stated[node.output[0]].dim_value = batch[0]
            filled = True
    return filled


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model without large constants' values and without any stated shape but those of its inputs."""
    if model.functions or len(list(model.graphs())) > 1:
        proto = to_proto(_stripped(model))
        held = list(_graphs(proto.graph))
    else:
        proto = _flat(model)
        held = [proto.graph]
    for graph in held:
        _forget_negative_sizes(graph)
    return proto


def _flat(model: ir.Model) -> onnx.ModelProto:
    """As :func:`_stripped`, at a third of its cost, for a model of one graph."""
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    imports.append(onnx.helper.make_opsetid(_HIDDEN, 1))
    proto = onnx.ModelProto(ir_version=model.ir_version, opset_import=imports)
    graph = proto.graph
    graph.input.extend(serde.serialize_value(value) for value in model.graph.inputs)
    graph.output.extend(onnx.ValueInfoProto(name=value.name or "") for value in model.graph.outputs)
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            _add_constant(graph, name, value.const_value)
    _add_nodes(graph, model.graph)
    return proto


def _add_constant(graph: onnx.GraphProto, name: str, constant: ir.TensorProtocol) -> None:
    tensor = _without_values(constant)
    tensor.name = name
    graph.initializer.append(tensor)


def _add_nodes(graph: onnx.GraphProto, nodes: Iterable[ir.Node]) -> None:
    for node in nodes:
        found = _hidden(node)
        graph.node.add(
            op_type=node.op_type,
            domain=node.domain if found is None else _HIDDEN,
            input=["" if value is None else value.name or "" for value in node.inputs],
            output=[value.name or "" for value in node.outputs],
            attribute=map(_attribute, node.attributes.values()) if node.attributes else (),
        )
        if found is not None:
            graph.value_info.append(serde.serialize_value(found))


def _stripped(model: ir.Model) -> ir.Model:
    """A copy without large constants' values and without any stated shape but those of its inputs."""
    clone = model.clone()
    for graph in clone.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = serde.TensorProtoTensor(_without_values(value.const_value))
    for place in places(clone):
        for output in place.node.outputs:
            output.shape = None
        for name, attribute in list(place.node.attributes.items()):
            place.node.attributes[name] = _small(attribute)
        if (found := _hidden(place.node)) is not None:
            place.node.domain = _HIDDEN
            place.node.outputs[0].type, place.node.outputs[0].shape = found.type, found.shape
    clone.opset_imports[_HIDDEN] = 1
    return clone


def _small(attribute: ir.Attr) -> ir.Attr:
    """The attribute, without the values of a large tensor."""
    if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR:
        return attribute
    return ir.AttrTensor(attribute.name, serde.TensorProtoTensor(_without_values(attribute.as_tensor())))


def _attribute(attribute: ir.Attr) -> onnx.AttributeProto:
    return serde.serialize_attribute(_small(attribute))


def _without_values(tensor: ir.TensorProtocol) -> onnx.TensorProto:
    """A tensor, or type and sizes of a large one: inference takes it for one that lies in another file."""
    if bytes_of(tensor) <= _SMALL:
        return serde.serialize_tensor(tensor)
    elsewhere = onnx.TensorProto.EXTERNAL
    return onnx.TensorProto(
        name=tensor.name or "", data_type=tensor.dtype, dims=dims_of(tensor), data_location=elsewhere
    )


def _hidden(node: ir.Node) -> ir.Value | None:
    """What a ConvTranspose makes whose sizes inference gets wrong; None for all other nodes.

    It would drop sizes of ``output_shape`` below the input's, and runtimes make others of SAME with output_padding. A
    weight of two axes ends the process (onnx 1.20).
    """
    kernel = node.inputs[1] if is_standard(node, "ConvTranspose") and len(node.inputs) > 1 else None
    if kernel is None or kernel.shape is None:
        return None
    kind = ir.TensorType(kernel.dtype or ir.DataType.FLOAT)
    rank = len(kernel.shape) - 2
    if rank < 1:
        return ir.Value(name=node.outputs[0].name, type=kind)
    spatial: Sequence[int | None] = stated_integers(node, "output_shape")[-rank:]
    if has_other_sizes(node):
        spatial = [None] * rank
    if not spatial:
        return None
    group = node.attributes.get("group")
    factors = kernel.shape[1], 1 if group is None else group.value
    channels = math.prod(factors) if all(isinstance(factor, int) for factor in factors) else None
    return ir.Value(name=node.outputs[0].name, type=kind, shape=ir.Shape([None, channels, *spatial]))


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


def _read(graph: onnx.GraphProto) -> Shapes:
    """What inference has found."""
    shapes: list[tuple[str, Shape]] = []
    types: dict[str, int] = {}
    symbols: dict[str, tuple[int | str, ...]] = {}
    for held in _graphs(graph):
        for value in (*held.input, *held.value_info, *held.output):
            name, tensor = value.name, value.type.tensor_type
            types[name] = tensor.elem_type
            sizes = _sizes(tensor.shape)
            if held is graph:
                symbols[name] = sizes
            if sizes or tensor.HasField("shape"):
                shapes.append((name, _known(sizes)))
        shapes.extend((initializer.name, tuple(initializer.dims)) for initializer in held.initializer)
    return Shapes(_merged(shapes), types, symbols)


def _sizes(shape: onnx.TensorShapeProto) -> tuple[int | str, ...]:
    """The sizes, or the names of those that are unknown."""
    return tuple([size if (size := dim.dim_value) > 0 else dim.dim_param for dim in shape.dim])


def _known(sizes: Iterable[int | str]) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in sizes)
