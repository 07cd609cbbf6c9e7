"""Programs into a model, and single sites out of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Weights
from splitdeconv.errors import UsageError
from splitdeconv.formats.tflite.constants import folded
from splitdeconv.formats.tflite.emit import Emitter
from splitdeconv.formats.tflite.graph import Graph, indices, touched_tensors
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.nodes import nodes_of
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.steps import is_native, widened
from splitdeconv.formats.tflite.stretched_emit import (
    OperatorCopies,
    write_beside,
    write_beside_stages,
    write_front,
    write_stages,
)
from splitdeconv.formats.tflite.way_back import ReplacedNode, rewriting, stored_text, with_text
from splitdeconv.formats.tflite.writer import GraphWriter
from splitdeconv.formats.way_back import with_conversion

# Operators without side effects that compute an output shape or unpack a constant.
_REMOVABLE = frozenset(
    {"SHAPE", "STRIDED_SLICE", "PACK", "CONCATENATION", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "GATHER"}
    | {"MUL", "ADD", "SUB", "DEQUANTIZE", "TRANSPOSE"}
)


def stand_alone(node: Node, program: Program, weights: Weights | None) -> Any:
    """A model of one site under ``program``: input ``x``, of a skip connection ``x1`` too; one output.

    Args:
        node: the site.
        program: NHWC.
        weights: instead of the site's own; without activation and epilogue then.
    """
    program = widened(program)
    writer = GraphWriter(empty_root(node.id), 0)
    emitter = Emitter(writer, node, lambda tensor: borrowed(writer, node.graph, tensor), weights)
    first = node.graph.tensors[node.source] if node.stretched is not None and weights is None else emitter.types.source
    shapes = dict(zip(("x", "x1"), program.in_shapes, strict=False))
    sources = [writer.tensor(first, shape, name) for name, shape in shapes.items()]
    result = writer.tensor(emitter.types.result, program.shapes()[-1], "y")
    outputs = [result]
    if node.stretched is None or weights is not None:
        emitter.emit(program, sources, result)
    else:
        outputs += _emit_stretched(emitter, program, sources, result)
    return finished(writer, sources, outputs)


def empty_root(site: str) -> Any:
    """A model without operators, for a site alone."""
    root = tfl.ModelT(version=3, operatorCodes=[], subgraphs=[tfl.SubGraphT(tensors=[])], buffers=[tfl.BufferT()])
    root.description = f"splitdeconv: site {site}".encode()
    return root


def finished(writer: GraphWriter, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    """The model of all operators that were written."""
    graph = writer.subgraph
    graph.operators, graph.name = writer.operators, b"main"
    graph.inputs, graph.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
    return writer.root


def _emit_stretched(emitter: Emitter, program: Program, sources: list[int], result: int) -> list[int]:
    """A convolution of a stretched map with all that belongs to it: as the model has it, or by its program.

    The first source is the small map in the convolution's layout, its borders done. Returns what stays of the
    stretching whatever becomes of the site, so that each form's time has it.
    """
    node = emitter.node
    assert node.stretched is not None, "asked of stretched maps only"
    stretched, (source, *beside) = node.stretched, sources
    needed = stretched.is_plain and (is_native(program) or stretched.kept is not None)
    copied = OperatorCopies(emitter, stretched, source, beside) if needed else None
    x = copied.of(node.operand) if copied is not None and is_native(program) else None
    if x is None:
        maps = [write_stages(emitter, stretched.stages, source, program.in_shape)]
        maps += [write_beside_stages(emitter, stretched, each, *program.inputs) for each in beside]
        emitter.emit(program, maps, result)
    else:
        emitter.original(x, result)
    kept = None if copied is None or stretched.kept is None else copied.of(stretched.kept)
    return [] if kept is None else [kept]


def borrowed(writer: GraphWriter, graph: Graph, tensor: int) -> int:
    """A constant of another model, with the DEQUANTIZE before it."""
    producer, found = graph.producer(tensor), graph.tensors[tensor]
    opens = producer is not None and graph.name(producer) == "DEQUANTIZE"
    values = None if opens else folded(graph, tensor)
    name = f"constant{tensor}"
    if values is not None:
        return writer.constant(values, name, found.quantization)
    assert producer is not None, "only constants, and what a DEQUANTIZE makes of them, are borrowed"
    stored = borrowed(writer, graph, graph.inputs_of(producer)[0])
    opened = writer.tensor(found, graph.shape(tensor), name)
    writer.operator(Builtin.DEQUANTIZE, 3, [stored], [opened], tfl.DequantizeOptionsT())
    return opened


def splice(root: Any, programs: Mapping[str, Program], numerics: str) -> Any:
    """A tree in which each site named in ``programs`` is replaced.

    Raises:
        UsageError: a name that is no site.
    """
    nodes = {node.id: node for node in nodes_of(root, numerics)}
    if unknown := sorted(set(programs) - set(nodes)):
        raise UsageError(f"no site is called '{unknown[0]}'; there are {', '.join(nodes) or 'none'}")
    changed = [(nodes[name], widened(program)) for name, program in programs.items() if not is_native(program)]
    return exchanged(root, changed, _write_site) if changed else root


Write = Callable[[GraphWriter, Node, Program], None]


def _write_site(writer: GraphWriter, node: Node, program: Program) -> None:
    emitter = Emitter(writer, node)
    emitter.emit(program, [write_front(emitter), *write_beside(emitter)], node.result)


def exchanged(root: Any, sites: Sequence[tuple[Node, Program]], write: Write) -> Any:
    """A tree in which each node and its epilogue is replaced by what ``write`` writes of its program."""
    new, done, removed = root, list[ReplacedNode](), dict[int, set[int]]()
    for number in sorted({node.graph.number for node, _ in sites}):
        here = [(node, program) for node, program in sites if node.graph.number == number]
        new, replaced, removed[number] = _splice_graph(new, here, number, write)
        done += replaced
    new = without_dead(root, new)
    return with_text(new, with_conversion(stored_text(new), rewriting(root, new, done, removed)))


def _splice_graph(
    root: Any, sites: list[tuple[Node, Program]], number: int, write: Write
) -> tuple[Any, list[ReplacedNode], set[int]]:
    """Replace the sites of one subgraph; each program stands where its deconv stood.

    Returns:
        The tree, what was done, and the operators that are gone.
    """
    writer = GraphWriter(root, number)
    inserted: dict[int, list[Any]] = {}
    removed: set[int] = set()
    for node, program in sites:
        start = len(writer.operators)
        write(writer, node, program)
        inserted[node.operator] = writer.operators[start:]
        removed |= {node.operator, *node.epilogue.operators}
    stretching = {each for node, _ in sites if node.stretched for each in node.stretched.nodes}
    removed = _with_dead(sites[0][0].graph, removed, inserted, stretching)
    operators = []
    for index, operator in enumerate(writer.subgraph.operators):
        operators += inserted.get(index, [])
        if index not in removed:
            operators.append(operator)
    writer.subgraph.operators = operators
    done = [ReplacedNode(node, program, inserted[node.operator]) for node, program in sites]
    return writer.root, done, removed


def _with_dead(graph: Graph, removed: set[int], inserted: Mapping[int, list[Any]], stretching: set[int]) -> set[int]:
    """``removed`` and the operators that only fed what is removed; those that stretch maps are among them."""
    gone = set(removed)
    needed = set(graph.outputs)
    for operators in inserted.values():
        needed |= {tensor for operator in operators for tensor in indices(operator.inputs)}
    candidates = set(removed)
    while candidates:
        operands = {tensor for operator in candidates for tensor in graph.inputs_of(operator)}
        producers = {graph.producer(tensor) for tensor in operands} - gone
        candidates = {
            operator
            for operator in producers
            if operator is not None
            and (graph.name(operator) in _REMOVABLE or operator in stretching)
            and not any(_is_read(graph, tensor, gone) or tensor in needed for tensor in graph.outputs_of(operator))
        }
        gone |= candidates
    return gone


def _is_read(graph: Graph, tensor: int, gone: set[int]) -> bool:
    return any(operator not in gone for operator in graph.readers(tensor))


def without_dead(old: Any, new: Any) -> Any:
    """The new tree without the contents and sizes of what only the replaced operators touched; numbers stay.

    A tensor that no operator makes or reads is never allocated, and tools that look at all tensors, LiteRT's quantiser
    among them, fail at one that has a size.
    """
    dead = _read_buffers(old) - _read_buffers(new)
    dead -= {entry.buffer for entry in new.metadata or []}
    result = copy.copy(new)
    result.buffers = [tfl.BufferT() if number in dead else buffer for number, buffer in enumerate(new.buffers)]
    graphs = zip(old.subgraphs, new.subgraphs, strict=True)
    result.subgraphs = [_without_dead_tensors(new, before, graph) for before, graph in graphs]
    return result


def _without_dead_tensors(root: Any, old: Any, new: Any) -> Any:
    """One subgraph; the tensors that only ``old`` touches are of size 0."""
    dead = touched_tensors(root, old) - touched_tensors(root, new)
    result = copy.copy(new)
    result.tensors = [_empty(tensor) if number in dead else tensor for number, tensor in enumerate(new.tensors)]
    return result if dead else new


def _empty(tensor: Any) -> Any:
    result = copy.copy(tensor)
    result.shape, result.shapeSignature, result.buffer = np.zeros(1, np.int32), None, 0
    result.sparsity = result.quantization = None
    return result


def _read_buffers(root: Any) -> set[int]:
    """Buffers of tensors that an operator or the outside reads."""
    found: set[int] = set()
    for graph in root.subgraphs:
        read = set(indices(graph.inputs)) | set(indices(graph.outputs))
        for operator in graph.operators or []:
            read |= set(indices(operator.inputs))
        found |= {graph.tensors[tensor].buffer for tensor in read if tensor >= 0}
    return found
