"""Values that are known before the model runs: initializers, Constant nodes, and what can be folded from them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, is_standard

_RANDOM = frozenset(["Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomUniform"])
# The reference implementation knows these from opset 19 on; what earlier ones allow means the same there.
_KNOWN_FROM = {"DequantizeLinear": 19, "QuantizeLinear": 19}
_SMALL = 1024  # bytes; larger constants never hold a shape
_LARGEST = 2**28  # elements of a folded value: one GiB in float32, as large as a weight can be in practice
_DEPTH = 20  # longer chains of foldable nodes before a weight are not known to exist


def dims_of(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """The sizes of a tensor; of one that was read from a file without the object that onnx_ir makes at each look."""
    return tuple(tensor.raw.dims if isinstance(tensor, serde.TensorProtoTensor) else tensor.shape.numpy())


def bytes_of(tensor: ir.TensorProtocol) -> int:
    """What a tensor takes."""
    return math.ceil(math.prod(dims_of(tensor)) * tensor.dtype.itemsize)


def is_overridable(value: ir.Value, ir_version: int) -> bool:
    """Whether a caller of the model may replace this initializer (from IR version 4 on, by naming it as an input)."""
    return bool(ir_version >= 4 and value.is_initializer() and value.is_graph_input())


def constant(value: ir.Value | None, opset: int, depth: int = _DEPTH) -> Array | None:
    """The array that ``value`` always holds, or None where it is computed at run time, or too large.

    An overridable initializer counts as constant; :func:`is_overridable` tells it apart.
    """
    return _constant(value, opset, depth, {})


def known_constant(value: ir.Value, opset: int) -> Array:
    """The value of what was found to be constant before."""
    found = constant(value, opset)
    assert found is not None, "a located site's weights are constant"
    return found


def _constant(value: ir.Value | None, opset: int, depth: int, folded: dict[ir.Value, Array | None]) -> Array | None:
    """As :func:`constant`; ``folded`` is what was computed on the way, which several nodes may read."""
    if value is None or depth == 0:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    producer = value.producer()
    if producer is None or producer.domain not in STANDARD_DOMAINS:
        return None
    if producer.op_type == "Constant":
        return _constant_node(producer)
    if value not in folded:
        folded[value] = _fold(producer, value, opset, depth, folded)
    return folded[value]


def _constant_node(node: ir.Node) -> Array | None:
    attribute = node.attributes.get("value")
    if attribute is not None and not attribute.is_ref():
        return attribute.as_tensor().numpy()
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        attribute = node.attributes.get(name)
        if attribute is not None and not attribute.is_ref():
            return np.asarray(attribute.value, dtype)
    attribute = node.attributes.get("value_ints")
    return None if attribute is None or attribute.is_ref() else np.asarray(attribute.value, np.int64)


def integers(node: ir.Node, place: int, name: str, opset: int, absent: list[int] | None = None) -> list[int] | None:
    """A list that is an attribute in older opsets, and a constant input in later ones.

    Args:
        node: that has it.
        place: of the input.
        name: of the attribute.
        opset: of the graph.
        absent: what is meant where neither is there.

    Returns:
        The list; None where it is computed at run time.
    """
    if (found := node.attributes.get(name)) is not None and not found.is_ref():
        return list(found.as_ints())
    value = node.inputs[place] if len(node.inputs) > place else None
    array = constant(value, opset)
    return absent if value is None else None if array is None else [int(each) for each in array.ravel()]


def packed(node: ir.Node) -> str:
    """How a DequantizeLinear's constant is stored, where reading it as float would undo what it is stored so for.

    ``in blocks of 32`` or ``as float8e4m3fn``; empty for the integers that are known here, and for other nodes.
    """
    if node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return ""
    block = node.attributes.get("block_size")
    if block is not None and not block.is_ref() and block.as_int():
        return f"in blocks of {block.as_int()}"
    source = node.inputs[0]
    dtype = source.const_value.dtype if source.const_value is not None else source.dtype
    name = "" if dtype is None else dtype.name.lower()
    return f"as {name}" if name.startswith(("float8", "float4")) else ""


def _fold(node: ir.Node, value: ir.Value, opset: int, depth: int, folded: dict[ir.Value, Array | None]) -> Array | None:
    """Evaluate one node whose inputs are all constant, with ONNX's own reference implementation."""
    bodies = (attribute.is_ref() or attribute.type.name.startswith("GRAPH") for attribute in node.attributes.values())
    if node.op_type.removesuffix("Like") in _RANDOM or not node.inputs or any(bodies) or packed(node):
        return None
    feeds = {}
    for number, source in enumerate(node.inputs):
        if source is None:
            continue
        known = _constant(source, opset, depth - 1, folded)
        if known is None:
            return None
        feeds[f"i{number}"] = known
    return evaluate_node(node, value, feeds, opset)


def evaluate_node(node: ir.Node, value: ir.Value, feeds: dict[str, Array], opset: int) -> Array | None:
    """One node on known inputs ``i0``, ``i1``, …; None where the reference implementation does not know it."""
    proto = ir.to_proto(node)
    names = [f"i{number}" if source is not None else "" for number, source in enumerate(node.inputs)]
    outputs = [f"o{number}" for number in range(len(node.outputs))]
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    del copy.input[:], copy.output[:]
    copy.input.extend(names)
    copy.output.extend(outputs)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    wanted = onnx.helper.make_value_info(outputs[value.index() or 0], onnx.TypeProto())
    graph = onnx.helper.make_graph([copy], "fold", inputs, [wanted])
    known = max(opset, _KNOWN_FROM.get(node.op_type, 0))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", known)])
    if _elements(model, feeds) > _LARGEST:
        return None
    try:
        (result,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # whatever the evaluator cannot do is simply not constant for us
        return None
    return np.asarray(result)


def _elements(model: onnx.ModelProto, feeds: dict[str, Array]) -> int:
    """How many elements the output of a model on known inputs has; 0 where ONNX's inference does not tell."""
    small = [onnx.numpy_helper.from_array(array, name) for name, array in feeds.items() if array.nbytes <= _SMALL]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.extend(small)
    try:
        (output,) = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph.output
    except Exception:  # inference is an aid
        return 0
    return math.prod(dim.dim_value for dim in output.type.tensor_type.shape.dim)


def drop_unused(value: ir.Value | None) -> None:
    """Remove the initializer, or the chain of constant nodes, behind ``value`` if nothing reads it any more."""
    if value is None or value.uses() or value.is_graph_output():
        return
    graph = value.graph
    if value.is_initializer() and isinstance(graph, ir.Graph):
        del graph.initializers[value.name or ""]
        if value.is_graph_input():
            graph.inputs.remove(value)
        return
    producer = value.producer()
    if producer is None or any(output.uses() or output.is_graph_output() for output in producer.outputs):
        return
    if is_standard(producer, "Constant") or producer.inputs:
        sources = [source for source in producer.inputs if source is not None]
        holder = producer.graph
        if holder is not None:
            holder.remove(producer, safe=True)
            for source in dict.fromkeys(sources):
                drop_unused(source)
