"""Convolutions whose channels become pixels, found by where their elements go, and written as TRANSPOSE_CONV.

Before: CONV_2D → DEPTH_TO_SPACE, or RESHAPE, TRANSPOSE, RESHAPE. After: TRANSPOSE_CONV, and an ADD where phases have
biases of their own; the convolution's activation stands on the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.sub_pixel import LONGEST, OTHER_TYPE, QUANTISED, SubPixel, finer, numbered
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Origin, SubPixelSite
from splitdeconv.formats.tflite.constants import folded
from splitdeconv.formats.tflite.emit import Emitter, Value
from splitdeconv.formats.tflite.epilogue import Epilogue, readers
from splitdeconv.formats.tflite.geometry import FILTER_AXES, as_stored_kernel, conv_geometry
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.moves import MOVES, Operands, Unmoved
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.nodes import operator_name
from splitdeconv.formats.tflite.operands import LeftAlone, constant_operand
from splitdeconv.formats.tflite.refuse import composite_refusal
from splitdeconv.formats.tflite.schema import ACTIVATIONS, Builtin, tfl
from splitdeconv.formats.tflite.splice import borrowed, empty_root, exchanged, finished
from splitdeconv.formats.tflite.types import FLOAT32
from splitdeconv.formats.tflite.way_back import kept_names
from splitdeconv.formats.tflite.writer import GraphWriter
from splitdeconv.formats.way_back import TURNED
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import COMPOSITE
from splitdeconv.results.plan import Skipped

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_MOVES = ("DEPTH_TO_SPACE", "EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE")


def find_sub_pixels(root: Any) -> Iterator[SubPixelSite | Skipped]:
    """Convolutions whose channels become the pixels of a finer map; or why no TRANSPOSE_CONV computes one."""
    renamed = kept_names(root)
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        for operator in range(len(graph.operators)):
            if graph.name(operator) in _CONVOLUTIONS:
                found = _read(graph, operator, operator_name(graph, operator, renamed))
                if found is not None:
                    yield found


def _read(graph: Graph, operator: int, name: str) -> SubPixelSite | Skipped | None:
    geometry, (output, *_) = conv_geometry(graph, operator), graph.outputs_of(operator)
    if geometry is None or max(geometry.strides) > 1 or len(graph.shape(output)) != 4:
        return None
    moves, channels, factors = _followed(graph, output)
    if not factors:
        return None
    batch, *sizes, in_channels = graph.shape(graph.inputs_of(operator)[0])
    spec = SubPixel(
        geometry.kernel, geometry.dilations, geometry.pads, factors, geometry.groups, in_channels or 0, channels
    )
    try:
        kernel, bias = _parameters(graph, operator, output)
    except LeftAlone as why:
        return Skipped(name, graph.describe(), str(why))
    operators = tuple(graph.name(each) for each in (operator, *moves))
    origin = Origin((graph, operator, moves))
    site = SubPixelSite(name, spec, batch, tuple(sizes), kernel, bias, operators, graph.describe(), origin)
    reason = spec.refuse() or composite_refusal(site.deconv)
    return site if reason is None else Skipped(name, graph.describe(), reason)


def _parameters(graph: Graph, operator: int, output: int) -> tuple[Array, Array | None]:
    """Kernel OIHW and bias.

    Raises:
        LeftAlone: they are no float32 constants, or it has an activation that TRANSPOSE_CONV lacks.
    """
    _, weight, *others = graph.inputs_of(operator)
    kernel = constant_operand(graph, weight, "weights")
    stored = graph.type_name(kernel.tensor)
    if graph.type_name(output) != "float32" or "int" in stored:
        raise LeftAlone(QUANTISED)
    if stored != "float32":
        raise LeftAlone(OTHER_TYPE.format(stored))
    bias = constant_operand(graph, others[0], "bias") if others and others[0] >= 0 else None
    if _activation(graph, operator) not in ACTIVATIONS:
        raise LeftAlone(f"fused activation {_activation(graph, operator)} is none that TRANSPOSE_CONV has")
    values, added = folded(graph, kernel.tensor), None if bias is None else folded(graph, bias.operand)
    assert values is not None, "constants have values"
    return as_stored_kernel(graph.name(operator), values), None if added is None else added.reshape(-1)


def _activation(graph: Graph, operator: int) -> int:
    return int(graph.operators[operator].builtinOptions.fusedActivationFunction)


def _followed(graph: Graph, output: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The operators up to a finer map, and its channels and factors as of :class:`SubPixel`; all empty without one."""
    batch, *sizes, depth = graph.shape(output)
    shape: Shape = (batch, depth, *sizes)
    coarse, moves = numbered(shape), list[int]()
    index = None if coarse is None else np.moveaxis(coarse, 1, -1)
    for reader in readers(graph, output):
        name, (source, *_) = graph.name(reader), graph.inputs_of(reader)
        made = output if not moves else graph.outputs_of(moves[-1])[0]
        if coarse is None or source != made or name not in _MOVES or len(moves) == LONGEST:
            break
        if None in shape and name != "DEPTH_TO_SPACE":
            break
        index = _moved(graph, reader, index)
        if index is None:
            break
        moves.append(reader)
        channels, factors = finer(np.moveaxis(index, -1, 1), coarse.shape) if index.ndim == 4 else ((), ())
        if factors:
            return tuple(moves), channels, factors
        if None in shape:
            break
    return (), (), ()


def _moved(graph: Graph, operator: int, index: Array | None) -> Array | None:
    given = [index, *(graph.content(each) for each in graph.inputs_of(operator)[1:])]
    try:
        (found,) = MOVES[graph.name(operator)](Operands(graph, operator, given, 0))
    except (Unmoved, ValueError, IndexError, TypeError, AttributeError, ArithmeticError):
        return None  # it contradicts its operands
    return found


def _as_node(site: SubPixelSite) -> Node:
    """The deconv in the place of the convolution and all that moves its elements."""
    graph, operator, moves = site.origin.nodes
    x, weight, *_ = graph.inputs_of(operator)
    kernel = constant_operand(graph, weight, "weights")
    result = graph.outputs_of(moves[-1])[0]
    epilogue = Epilogue(result, moves, activation=ACTIVATIONS[_activation(graph, operator)])
    output = graph.outputs_of(operator)[0]
    return Node(site.id, graph, operator, site.deconv, x, x, output, kernel, None, epilogue, ())


def _write(writer: GraphWriter, site: SubPixelSite, x: int, result: int, kernel: Array, bias: Array | None) -> None:
    """A TRANSPOSE_CONV with its bias, or one for each phase behind it."""
    own, phases = site.spec.split_bias(bias)
    deconv, node = replace(site.deconv, has_bias=own is not None), _as_node(site)
    program = lower(deconv, "NHWC", COMPOSITE)
    emitter = Emitter(writer, node, lambda tensor: tensor, Weights(site.spec.deconv_kernel(kernel), own))
    activation = _activation(node.graph, node.operator)
    if phases is None:
        emitter.activation = activation
        emitter.emit(program, [x], result)
        return
    made = Value(writer.tensor(FLOAT32, program.shapes()[-1], site.id), program.shapes()[-1])
    emitter.emit(program, [x], made.tensor)
    _add_phases(emitter, site, made, result, phases, activation)


def _add_phases(emitter: Emitter, site: SubPixelSite, y: Value, result: int, phases: Array, activation: int) -> None:
    """A number for each phase added to a map, by way of an axis for each; the batch is joined with the rows."""
    (rows, columns), (batch, height, width, channels) = site.spec.factors, y.shape
    assert height is not None, "sites without sizes stay"
    assert width is not None, "sites without sizes stay"
    lines = None if batch is None else batch * (height // rows)
    shape = (lines, rows, width // columns, columns, channels)
    split, added = (
        Value(emitter.writer.tensor(FLOAT32, shape, f"{site.id}/{name}"), shape) for name in ("split", "added")
    )
    values = np.ascontiguousarray(phases.transpose(1, 2, 0)[:, None])
    emitter.reshape(y.tensor, split)
    operands = [split.tensor, emitter.writer.constant(values, f"{site.id}/phase_bias")]
    emitter.add(Builtin.ADD, operands, added.tensor, tfl.AddOptionsT(fusedActivationFunction=activation))
    emitter.reshape(added.tensor, Value(result, y.shape))


def turn(root: Any, sites: Sequence[SubPixelSite]) -> Any:
    """A tree with ``sites`` as TRANSPOSE_CONV."""
    by_name = {site.id: site for site in sites}

    def write(writer: GraphWriter, node: Node, _: Program) -> None:
        site = by_name[node.id]
        _write(writer, site, node.source, node.result, site.kernel, site.bias)

    programs = [replace(lower(site.deconv, "NHWC", COMPOSITE), name=TURNED) for site in sites]
    return exchanged(root, [(_as_node(site), program) for site, program in zip(sites, programs, strict=True)], write)


def stand_alone_sub_pixel(site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool) -> Any:
    """One of them as a model: input ``x``, output ``y``."""
    graph, operator, moves = site.origin.nodes
    writer, deconv = GraphWriter(empty_root(site.id), 0), site.deconv
    x = writer.tensor(FLOAT32, (deconv.batch, *deconv.in_sizes, deconv.in_channels), "x")
    y = writer.tensor(FLOAT32, (deconv.batch, *deconv.out_sizes, deconv.out_channels), "y")
    if turned:
        _write(writer, site, x, y, kernel, bias)
        return finished(writer, [x], [y])
    order = np.argsort(FILTER_AXES[graph.name(operator)])
    given = [writer.constant(np.ascontiguousarray(kernel.transpose(order)), "weights")]
    given += [] if bias is None else [writer.constant(bias, "bias")]
    value, operators = x, (operator, *moves)
    for each in operators:
        made = graph.outputs_of(each)[0]
        others = given if each == operator else [borrowed(writer, graph, n) for n in graph.inputs_of(each)[1:]]
        target = y if each == operators[-1] else writer.tensor(FLOAT32, graph.shape(made), f"value{made}")
        writer.copied(graph.root, graph.operators[each], [value, *others], [target])
        value = target
    return finished(writer, [x], [y])
