"""A model whose open sizes are written into it, and what its arithmetic on sizes gives as constants."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.graph import Graph, indices
from splitdeconv.formats.tflite.moves import MOVES, NUMBERS
from splitdeconv.formats.tflite.schema import DTYPES, Builtin, tfl
from splitdeconv.formats.tflite.transposed import PLACES
from splitdeconv.formats.tflite.writer import GraphWriter

# Their outputs have sizes that follow from values, or from another subgraph.
_BY_VALUES = frozenset(
    [
        *("CALL", "HASHTABLE_FIND", "IF", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "READ_VARIABLE"),
        *("STABLEHLO_COMPOSITE", "STABLEHLO_CUSTOM_CALL", "STABLEHLO_WHILE", "UNIQUE", "VAR_HANDLE", "WHERE", "WHILE"),
    ]
)
_WHOLE = ("int32", "int64")
_MOST_NUMBERS = 64  # elements of a tensor of sizes; more are data
_INT32 = tfl.TensorT(type=tfl.TensorType.INT32)


@dataclass(frozen=True, slots=True)
class FixedTensors:
    """Tensors of the first subgraph of which the sizes of its inputs decide everything that is open.

    Attributes:
        maps: those whose sizes follow.
        numbers: those whose values follow, too: arithmetic on sizes.
    """

    maps: tuple[int, ...]
    numbers: tuple[int, ...]


def settled_by_inputs(root: Any) -> FixedTensors:
    """What follows from the sizes of all inputs, whatever their values."""
    graph = Graph(root, 0)
    sized, numbers = set(indices(root.subgraphs[0].inputs)), set[int]()
    for operator, each in enumerate(graph.operators):
        name, outputs = graph.name(operator), graph.outputs_of(operator)
        operands = [operand for operand in graph.inputs_of(operator) if operand >= 0]
        computed = [operand for operand in operands if not _is_stored(graph, operand)]
        builtin = root.operatorCodes[each.opcodeIndex].customCode is None or name in PLACES
        whole = {operand for operand in computed if graph.type_name(operand) in _WHOLE}
        follows = builtin and name not in _BY_VALUES and sized.issuperset(computed)
        if name == "SHAPE" and follows:
            numbers.update(outputs)
        # A computed integer may be a size; what is made by it has sizes that follow only where its value does.
        elif follows and whole <= numbers:
            known = name in NUMBERS or name in MOVES
            numbers.update(outputs if known and numbers.issuperset(computed) else ())
        else:
            continue
        sized.update(outputs)
    open_maps = tuple(tensor for tensor in sorted(sized) if None in graph.shape(tensor))
    return FixedTensors(open_maps, tuple(tensor for tensor in sorted(numbers) if _may_be_stored(graph, tensor)))


def _is_stored(graph: Graph, tensor: int) -> bool:
    return graph.producer(tensor) is None and tensor not in indices(graph.root.subgraphs[graph.number].inputs)


def _may_be_stored(graph: Graph, tensor: int) -> bool:
    small = math.prod(indices(graph.tensors[tensor].shape)) <= _MOST_NUMBERS
    return graph.type_name(tensor) in _WHOLE and small and tensor not in graph.outputs


def watched(root: Any, settled: FixedTensors) -> Any:
    """The tree with other outputs: the sizes of each of ``maps``, then each of ``numbers``.

    Signatures go, since they name the old outputs.
    """
    writer, graph = GraphWriter(root, 0), Graph(root, 0)
    places: dict[int | None, list[Any]] = {}
    outputs = []
    for tensor in settled.maps:
        made = writer.tensor(_INT32, (len(graph.shape(tensor)),), f"splitdeconv/sizes{tensor}")
        outputs.append(made)
        writer.operator(Builtin.SHAPE, 1, [tensor], [made], tfl.ShapeOptionsT(outType=tfl.TensorType.INT32))
        places.setdefault(graph.producer(tensor), []).append(writer.operators[-1])
    # At once behind what makes a map, so that it need not be kept.
    operators = list(places.get(None, []))
    for number, operator in enumerate(graph.operators):
        operators += [operator, *places.get(number, [])]
    writer.subgraph.operators, writer.root.signatureDefs = operators, None
    writer.subgraph.outputs = np.asarray([*outputs, *settled.numbers], np.int32)
    return writer.root


def with_fixed_sizes(root: Any, settled: FixedTensors, found: Sequence[Array]) -> Any:
    """The tree with the sizes written into it, and arithmetic on sizes as constants.

    Args:
        root: of the model.
        settled: what the sizes decide.
        found: the outputs of the tree of :func:`watched`, in order.
    """
    writer, graph = GraphWriter(root, 0), Graph(root, 0)
    sizes = dict(zip(settled.maps, found, strict=False))
    values = dict(zip(settled.numbers, found[len(settled.maps) :], strict=True))
    tensors = writer.subgraph.tensors
    for tensor, shape in sizes.items():
        tensors[tensor] = _with(tensors[tensor], shape=shape.astype(np.int32), shapeSignature=None)
    for tensor, value in values.items():
        stored = np.ascontiguousarray(value, np.dtype(DTYPES[tensors[tensor].type]))
        writer.root.buffers.append(tfl.BufferT(data=np.frombuffer(stored.tobytes(), np.uint8)))
        buffer, shape = len(writer.root.buffers) - 1, np.asarray(value.shape, np.int32)
        tensors[tensor] = _with(tensors[tensor], buffer=buffer, shape=shape, shapeSignature=None)
    operators = graph.operators
    needed = [not values.keys() >= set(graph.outputs_of(number)) for number in range(len(operators))]
    writer.subgraph.operators = [each for each, stays in zip(operators, needed, strict=True) if stays]
    return writer.root


def _with(tensor: Any, **fields: Any) -> Any:
    new = copy.copy(tensor)
    vars(new).update(fields)
    return new
