"""What onnx_ir does not carry from one file to the next, so that it stays in the model all the same.

Sparse tensors become nodes of a domain of ours while the model is in memory. The training part, and value infos of
functions before IR version 10, are kept beside it. Metadata of initializers, which onnx_ir writes twice, is written
once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx import FunctionProto, GraphProto, NodeProto, helper

_DOMAIN = "splitdeconv"
_CONSTANT, _INITIALIZER = "SparseConstant", "SparseInitializer"
_SPARSE = "sparse_value"
_INFOS_FROM = 10  # IR version in which onnx_ir carries value infos of functions


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept beside a model.

    Attributes:
        training: serialised TrainingInfoProto messages.
        infos: function (domain, name, overload) → serialised ValueInfoProto messages.
    """

    training: tuple[bytes, ...] = ()
    infos: tuple[tuple[tuple[str, str, str], tuple[bytes, ...]], ...] = ()

    def trained(self) -> frozenset[str]:
        """The values that the training part reads or binds."""
        parts = [onnx.TrainingInfoProto.FromString(each) for each in self.training]
        bound = {entry.key for part in parts for entry in (*part.update_binding, *part.initialization_binding)}
        return frozenset(bound.union(*(node.input for part in parts for node in part.algorithm.node)))


NOTHING = Kept()


def from_proto(proto: onnx.ModelProto) -> tuple[ir.Model, Kept]:
    """The model, and what is to be kept beside it."""
    infos = tuple(
        (_key(function), tuple(info.SerializeToString() for info in function.value_info))
        for function in proto.functions
        if function.value_info and proto.ir_version < _INFOS_FROM
    )
    kept = Kept(tuple(part.SerializeToString() for part in proto.training_info), infos)
    sparse = any(map(_is_sparse, _nodes(proto))) or any(graph.sparse_initializer for graph in _graphs(proto.graph))
    if infos or sparse:
        proto = _hidden(proto)
    return ir.from_proto(proto), kept


def _hidden(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what onnx_ir does not take."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if copy.ir_version < _INFOS_FROM:
        for function in copy.functions:
            del function.value_info[:]
    for graph in list(_graphs(copy.graph)):
        _hide_initializers(graph)
    for node in list(_nodes(copy)):
        if _is_sparse(node):
            _hide(node)
    return copy


def _is_sparse(node: NodeProto) -> bool:
    return node.op_type == "Constant" and any(attribute.name == _SPARSE for attribute in node.attribute)


def to_proto(model: ir.Model, kept: Kept = NOTHING) -> onnx.ModelProto:  # frozen
    """The model with what was kept.

    Raises:
        SerdeError: the model holds what ONNX has no form for.
    """
    return restored(ir.to_proto(model), kept)


def restored(proto: onnx.ModelProto, kept: Kept) -> onnx.ModelProto:
    """``proto``, which onnx_ir has written, changed into what it was read from."""
    graphs = list(_graphs(proto.graph))
    for holder in (*graphs, *_function_graphs(proto)):
        for node in [each for each in holder.node if each.domain == _DOMAIN]:
            _show(holder, node)
    for graph in graphs:
        for tensor in graph.initializer:
            if len(tensor.metadata_props) > 1:
                _once(tensor)
    for part in kept.training:
        proto.training_info.add().ParseFromString(part)
    infos = dict(kept.infos)
    for function in proto.functions:
        for info in infos.get(_key(function), ()):
            function.value_info.add().ParseFromString(info)
    return proto


def _once(tensor: onnx.TensorProto) -> None:
    """Metadata without those that are there twice."""
    entries = {entry.key: entry.value for entry in tensor.metadata_props}
    del tensor.metadata_props[:]
    for key, value in entries.items():
        tensor.metadata_props.add(key=key, value=value)


def _key(function: onnx.FunctionProto) -> tuple[str, str, str]:
    return function.domain, function.name, function.overload


def _hide(node: NodeProto) -> None:
    """A node with a sparse tensor as one that holds it in bytes."""
    content = node.SerializeToString()
    node.Clear()
    original = NodeProto.FromString(content)
    node.op_type, node.domain, node.name = _CONSTANT, _DOMAIN, original.name
    node.output.extend(original.output)
    node.attribute.append(helper.make_attribute("node", content))


def _hide_initializers(graph: GraphProto) -> None:
    """Sparse initializers as nodes before all others."""
    nodes = [
        helper.make_node(_INITIALIZER, [], [tensor.values.name], domain=_DOMAIN, tensor=tensor.SerializeToString())
        for tensor in graph.sparse_initializer
    ]
    if nodes:
        rest = list(graph.node)
        del graph.node[:], graph.sparse_initializer[:]
        graph.node.extend([*nodes, *rest])


def _show(holder: GraphProto | FunctionProto, node: NodeProto) -> None:
    """What a node of ours stands for."""
    if node.op_type == _CONSTANT:
        node.CopyFrom(NodeProto.FromString(node.attribute[0].s))
    elif node.op_type == _INITIALIZER and isinstance(holder, GraphProto):
        holder.sparse_initializer.add().ParseFromString(node.attribute[0].s)
        holder.node.remove(node)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and the bodies in it."""
    yield graph
    for node in graph.node:
        yield from _bodies(node)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from _graphs(body)


def _function_graphs(proto: onnx.ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """The functions and the bodies in them."""
    for function in proto.functions:
        yield function
        for node in function.node:
            yield from _bodies(node)


def _nodes(proto: onnx.ModelProto) -> Iterator[NodeProto]:
    """Every node of the model, bodies and functions included."""
    for holder in (*_graphs(proto.graph), *_function_graphs(proto)):
        yield from holder.node
