"""What a converted model keeps of its original, and the original's nodes in the place of the new ones again.

Before (convert): the nodes of a site are gone, its kernel is spread over the filters of new convolutions.
After (restore): the same nodes, with the kernel put together from these filters.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import groupby

import onnx
import onnx_ir as ir

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, lacks_memory
from splitdeconv.formats.onnx.constants import constant, drop_unused, known_constant
from splitdeconv.formats.onnx.emit import Source
from splitdeconv.formats.onnx.graph import Place, dequantiser_of, places
from splitdeconv.formats.onnx.quantised import Qdq
from splitdeconv.formats.onnx.quantised_values import SHIFT
from splitdeconv.formats.onnx.stretched import StretchedValue
from splitdeconv.formats.way_back import (
    CHANGED,
    SMALL,
    KeptFilter,
    KeptKernel,
    Rewriting,
    RewrittenSite,
    kept_kernel,
    put_together,
    undo_sites,
)
from splitdeconv.results.plan import Skipped

_CONVOLUTIONS = ("Conv", "QLinearConv", "ConvTranspose")
_STORED_AT = {"QLinearConv": 3}  # which input is the filter


@dataclass(frozen=True, eq=False)
class Replaced:
    """One site that was just rewritten.

    Attributes:
        site, place, form: what, where and in which form; the place is in the copy.
        nodes: the new ones, in order.
        weight: the original's constant.
        kernel: where its values are.
        small: these values, where they are few.
        last: the last node that is gone.
        output: what stands for the site's output now, under the original's name.
    """

    site: str
    place: Place
    form: str
    nodes: tuple[ir.Node, ...]
    weight: ir.Value
    kernel: KeptKernel
    small: Array | None
    last: ir.Node
    output: ir.Value


def stored_weight(place: Place, qdq: Qdq | None, source: Source) -> ir.Value:
    """The constant whose numbers a site's filters have."""
    found = place.node.inputs[1] if qdq is None else qdq.weight
    if source.stored is not None:
        node = dequantiser_of(found)
        assert node is not None, "read through it"
        found = node.inputs[0]
    assert found is not None, "a located site has a weight"
    return found


def kept_weight(
    place: Place,
    program: Program,
    source: Source,
    weight: ir.Value,
    stretched: StretchedValue | None,
    nodes: Sequence[ir.Node],
) -> tuple[KeptKernel, Array | None]:
    """Where the values of ``weight`` are in the new ``nodes``; and these values, where they are few."""
    deconv = program.deconv
    if "kernel" in deconv.run_time:  # what makes it stays in the model
        return KeptKernel(weight.name or "", deconv.weights_shape, deconv.out_channels, deconv.groups, ()), None
    tensor = _tensor(weight, place.opset)
    made = [node.outputs[0].name or "" for node in nodes if node.op_type in _CONVOLUTIONS]
    form = "dense" if deconv.diagonal else "deconv"
    if stretched is not None:
        form = "turned" if stretched.geometry.turned else "conv"
    zero = _zeros(source, deconv) if deconv.diagonal else ()
    moved = SHIFT if program.quant == "qlinear_u8" and tensor.dtype == ir.DataType.INT8 else 0
    kept = kept_kernel(program, weight.name or "", made, form, zero=zero, moved=moved)
    dtype = source.dtype if source.stored is None else source.stored.dtype
    if dtype != tensor.dtype:
        lost = f"its weights were stored as {tensor.dtype.name}, and the new filters are {dtype.name}"
        kept = replace(kept, lost=lost)
    return kept, tensor.numpy() if tensor.nbytes <= SMALL else None


def _tensor(weight: ir.Value, opset: int) -> ir.TensorProtocol:
    return ir.Tensor(known_constant(weight, opset)) if weight.const_value is None else weight.const_value


def _zeros(source: Source, deconv: Deconv) -> tuple[int, ...]:
    """What stands for 0, for each output channel."""
    if source.quant is None:
        return ()
    return tuple(source.quant.per_output(source.quant.w_zero, deconv.out_channels).tolist())


def rewriting(held: Iterable[ir.Graph], twins: Mapping[ir.Node, Place], done: Sequence[Replaced]) -> Rewriting:
    """What the original's nodes and small constants were, for the sites that were rewritten.

    Args:
        held: the graphs of the rewritten model.
        twins: of the original's nodes, in the copy.
        done: the sites.
    """
    originals = {twin.node: node for node, twin in twins.items()}
    left = {name for graph in held for name in graph.initializers}
    sites: list[RewrittenSite] = []
    parts: list[str] = []
    for number, (_, group) in enumerate(groupby(done, lambda each: _scope(each.place))):
        gone = _Gone(twins, left, originals)
        sites += [gone.site(each, number) for each in group]
        parts.append(b64encode(gone.part().SerializeToString()).decode())
    return Rewriting(tuple(sites), tuple(parts))


def _names(node: ir.Node) -> list[str | None]:
    return [None if value is None else value.name for value in node.inputs]


def _scope(place: Place) -> str:
    """What tells names of functions apart from those of the model."""
    return place.where if place.in_function else ""


class _Gone:
    """The nodes and constants of the original that the copy lacks, or has in another form.

    Args:
        twins: of the original's nodes, in the copy.
        left: names of the initializers that it has.
        originals: of the copy's nodes.
    """

    def __init__(
        self, twins: Mapping[ir.Node, Place], left: AbstractSet[str], originals: Mapping[ir.Node, ir.Node]
    ) -> None:
        self._twins, self._left, self._originals = twins, left, originals
        self._nodes: dict[ir.Node, None] = {}
        self._constants: dict[str, ir.TensorProtocol] = {}

    def site(self, done: Replaced, part: int) -> RewrittenSite:
        """The description of one site; what it needs is taken."""
        readers = [self._originals[use.node] for use in done.output.uses() if use.node in self._originals]
        changed = [node for node in dict.fromkeys(readers) if not self._is_alive(node)]
        ends = [self._originals[done.last].outputs[0], *(output for node in changed for output in node.outputs)]
        kernel: KeptKernel | None = done.kernel
        if _is_there(done.weight):
            kernel = None
        elif done.kernel.lost and done.small is not None:
            kernel, self._constants[done.kernel.name] = None, ir.Tensor(done.small, name=done.kernel.name)
        for value in ends:
            self._take(value, done.kernel.name)
        new = [output.name or "" for node in done.nodes for output in node.outputs]
        new += [value.name or "" for value in ends[1:]]
        results = tuple(value.name or "" for value in ends)
        place, form = done.place, done.form
        return RewrittenSite(done.site, place.where, place.in_function, form, part, tuple(new), results, kernel)

    def _is_alive(self, node: ir.Node) -> bool:
        """Whether the copy has a node of the original as it was."""
        twin = self._twins[node].node
        return twin.graph is not None and _names(node) == _names(twin)

    def _take(self, value: ir.Value | None, kernel: str) -> None:
        """What makes ``value``, as far as the copy lacks it, and without what makes the kernel."""
        if value is None or value.name == kernel:
            return
        producer = value.producer()
        if producer is None:
            if value.const_value is not None and value.name not in self._left:
                self._constants[value.name or ""] = value.const_value
        elif not self._is_alive(producer) and producer not in self._nodes:
            self._nodes[producer] = None
            for source in producer.inputs:
                self._take(source, kernel)

    def part(self) -> onnx.GraphProto:
        """All of them."""
        part = onnx.GraphProto(name="original")
        for node in self._nodes:
            part.node.append(ir.serde.serialize_node(node))
            part.value_info.extend(
                ir.serde.serialize_value(output) for output in node.outputs if output.type is not None
            )
        for name, tensor in self._constants.items():
            inside = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
            part.initializer.append(ir.serde.serialize_tensor(inside))
        return part


def _is_there(value: ir.Value) -> bool:
    producer = value.producer()
    if producer is None:
        return value.is_initializer() or value.is_graph_input()
    return producer.graph is not None


def undone(model: ir.Model, last: Rewriting) -> tuple[Skipped, ...]:
    """Put the original's nodes into ``model``, which is changed, as far as it has what they need; and what stays.

    Raises:
        InputError: the description is damaged.
    """
    return undo_sites(last, _read, lambda site, part: _Undo(model, site, part).do())


def _read(text: str) -> onnx.GraphProto:
    try:
        part: onnx.GraphProto = onnx.GraphProto.FromString(b64decode(text))
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(f"what it holds of its original is damaged ({error})") from None
    return part


class _Undo:
    """One site's nodes in the place of the new ones. Everything is looked up before the model is changed."""

    def __init__(self, model: ir.Model, site: RewrittenSite, part: onnx.GraphProto) -> None:
        self._site, self._model = site, model
        self._pool = {name: node for node in part.node for name in node.output}
        self._types = {info.name: info for info in part.value_info}
        self._tensors = {tensor.name: ir.serde.deserialize_tensor(tensor) for tensor in part.initializer}
        here = [place for place in places(model) if _scope(place) == (site.where if site.in_function else "")]
        self._values = {output.name or "": output for place in here for output in place.node.outputs}
        for graph in {id(place.graph): place.graph for place in here}.values():
            self._values |= {value.name or "": value for value in graph.inputs}
            if isinstance(graph, ir.Graph):
                self._values |= dict(graph.initializers)
        self._old = [self._value(name) for name in site.new]
        self._nodes = list(dict.fromkeys(self._producer(value) for value in self._old))
        self._new: list[ir.Node] = []
        self._made: dict[str, ir.Value] = {}
        if site.kernel is not None and site.kernel.name not in self._values:
            array = put_together(site.kernel, self._filter)
            self._tensors[site.kernel.name] = ir.Tensor(array, name=site.kernel.name)

    def _value(self, name: str) -> ir.Value:
        if name not in self._values:
            raise InputError(CHANGED)
        return self._values[name]

    def _producer(self, value: ir.Value) -> ir.Node:
        producer = value.producer()
        if producer is None:
            raise InputError(CHANGED)
        return producer

    def _filter(self, kept: KeptFilter) -> Array | None:
        """The stored filter of a new convolution."""
        node = self._producer(self._value(kept.made))
        at = _STORED_AT.get(node.op_type, 1)
        value = node.inputs[at] if len(node.inputs) > at else None
        while value is not None and value.const_value is None:
            producer = value.producer()
            if producer is None or not producer.inputs:
                return None if producer is None else constant(value, 0)
            value = producer.inputs[0]
        return None if value is None or value.const_value is None else value.const_value.numpy()

    def do(self) -> None:
        """Change the model."""
        gone = {value.name for value in self._old}
        ends = [(self._value(name), self._build(name, gone)) for name in self._site.results]
        holder = self._nodes[0].graph
        assert holder is not None, "found in one"
        sources = [value for node in self._nodes for value in node.inputs if value is not None]
        holder.insert_before(self._nodes[0], self._new)
        for old, new in ends:
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        for node in self._nodes:
            if node.graph is not None:
                node.graph.remove(node)
                for number in range(len(node.inputs)):
                    node.replace_input_with(number, None)
        for value in dict.fromkeys(sources):
            drop_unused(value)

    def _build(self, name: str, gone: AbstractSet[str | None]) -> ir.Value:
        """The value called ``name``: one of the model's, or one that is made again."""
        if name in self._made:
            return self._made[name]
        if name in self._values and name not in gone:
            return self._values[name]
        if name in self._tensors:
            self._made[name] = self._constant(name)
            return self._made[name]
        if name not in self._pool:
            raise InputError(CHANGED)
        proto = onnx.NodeProto()
        proto.CopyFrom(self._pool[name])
        inputs = [self._build(each, gone) if each else None for each in proto.input]
        del proto.input[:]  # onnx_ir looks for them, and warns
        node = ir.serde.deserialize_node(proto)
        node.resize_inputs(len(inputs))
        for number, value in enumerate(inputs):
            node.replace_input_with(number, value)
        for output in node.outputs:
            if output.name in self._types:
                ir.serde.deserialize_value_info_proto(self._types[output.name], output)
            self._made[output.name or ""] = output
        self._new.append(node)
        return self._made[name]

    def _constant(self, name: str) -> ir.Value:
        """An initializer of the model's own graph; a node inside of functions."""
        tensor = self._tensors[name]
        if self._site.in_function:
            node = ir.node("Constant", [], {"value": tensor})
            node.outputs[0].name = name
            self._new.append(node)
            return node.outputs[0]
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        self._model.graph.register_initializer(value)
        if self._model.ir_version < 4:
            self._model.graph.inputs.append(value)
        return value
