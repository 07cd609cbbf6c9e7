"""Where the elements of a map go: nodes that only move data, run on an array of the elements' numbers.

An element that the model fills with zero is ``ZERO`` there, one that it fills with anything else ``OTHER``.
Element-wise nodes move nothing; where they turn zeros into something else, ``ZERO`` becomes ``OTHER``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import OTHER, ZERO
from splitdeconv.formats.onnx import upsampling
from splitdeconv.formats.onnx.constants import constant, evaluate_node
from splitdeconv.formats.onnx.epilogue import BINARY, NORM, UNARY, Stage, as_stage
from splitdeconv.formats.onnx.graph import MICROSOFT, STANDARD_DOMAINS
from splitdeconv.formats.onnx.skips import ConcatPart, stage_of

_SIZED = ("Shape", "Size")
# What exporters compute sizes and constant maps with.
_NUMBERS = frozenset(
    [
        *("Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "CumSum", "Div", "Equal", "Expand", "Flatten"),
        *("Floor", "Gather", "GatherND", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "NonZero"),
        *("Not", "Or", "Pad", "Range", "ReduceProd", "Reshape", "Round", "ScatterElements", "ScatterND", "Slice"),
        *("Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where"),
    ]
)
_QUANTISERS = ("DequantizeLinear", "QuantizeLinear")  # only to see what is quantised
# How many of the first inputs of a node are maps; further ones are numbers (None: all are maps).
_MAPS: Mapping[str, tuple[int, ...] | None] = {
    **dict.fromkeys(
        [
            *("Cast", "ConvTranspose", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"),
            *("Identity", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
            *("Transpose", "Unsqueeze", "Upsample"),
        ],
        (0,),
    ),
    "Concat": None,
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
}
# Nodes without which nothing is stretched.
STRETCHING = frozenset(
    ["Concat", "ConvTranspose", "Expand", "Gather", "GatherND", "Pad", "Resize", "ScatterND", "Tile", "Upsample"]
)

MOVING = frozenset(_MAPS) - {"ConvTranspose"} | UNARY | BINARY | {NORM, *_QUANTISERS}


def map_inputs(node: ir.Node, opset: int) -> tuple[ir.Value, ...]:
    """The maps whose elements ``node`` moves, or works on one by one; none where it does something else."""
    if node.domain not in (*STANDARD_DOMAINS, MICROSOFT) or any(
        attribute.is_ref() for attribute in node.attributes.values()
    ):
        return ()
    if node.op_type in UNARY or node.op_type == NORM or node.op_type in _QUANTISERS:
        given = node.inputs[:1]
    elif node.op_type in BINARY:
        given = [value for value in node.inputs if constant(value, opset) is None]
        given = given if len(given) == 1 else []
    elif node.op_type in _MAPS:
        places = _MAPS[node.op_type]
        given = list(node.inputs) if places is None else [node.inputs[n] for n in places if n < len(node.inputs)]
    else:
        return ()
    found = [value for value in given if value is not None]
    return tuple(value for value in found if not is_number(value, opset))


def is_number(value: ir.Value, opset: int, depth: int = 40) -> bool:
    """Whether ``value`` is made of constants and of sizes alone."""
    if depth == 0 or constant(value, opset, depth=2) is not None:
        return depth > 0
    node = value.producer()
    if node is None or node.domain not in STANDARD_DOMAINS:
        return False
    if node.op_type in _SIZED:
        return True
    sources = [source for source in node.inputs if source is not None and node.op_type in _NUMBERS]
    return bool(sources) and all(is_number(source, opset, depth - 1) for source in sources)


class Movement:
    """What arrives where, of the elements of ``source``.

    Args:
        source: whose elements are numbered, row-major.
        shape: the sizes that it is taken to have.
        opset: of the graph.
        shape_of: definite sizes of values that do not depend on ``source``, or None where they are unknown.
        channels: of the map, for element-wise nodes with a parameter for each one.
        part: which part of a Concat comes from ``source``; of the others nothing is told. None where all does.
    """

    def __init__(
        self,
        source: ir.Value,
        shape: tuple[int, ...],
        opset: int,
        shape_of: Callable[[ir.Value], tuple[int, ...] | None],
        channels: int,
        part: ConcatPart | None = None,
    ) -> None:
        self._opset, self._shape_of, self._channels, self._part = opset, shape_of, channels, part
        self._maps: dict[ir.Value, Array | None] = {source: np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)}
        self._numbers: dict[ir.Value, Array | None] = {}
        self.stages: dict[ir.Node, Stage] = {}

    def of(self, value: ir.Value) -> Array | None:
        """For each element of ``value`` the number of that of the source which it is; None where that is unknown."""
        if value not in self._maps:
            self._maps[value] = None  # a circle has no numbers
            self._maps[value] = self._moved(value)
        return self._maps[value]

    def _moved(self, value: ir.Value) -> Array | None:
        node = value.producer()
        if node is None or is_number(value, self._opset):
            number = self._number(value)
            return None if number is None else np.where(number == 0, ZERO, OTHER)
        if self._part is not None and node is self._part.concat:
            return self.of(self._part.value)
        maps = [self.of(each) for each in map_inputs(node, self._opset)]
        if not maps or any(each is None for each in maps):
            return None
        if node.op_type in _QUANTISERS:
            return self._through_quantiser(node, maps[0])
        if node.op_type in UNARY or node.op_type in BINARY or node.op_type == NORM:
            return self._element_wise(node, maps[0])
        return self._move(node, value)

    def _through_quantiser(self, node: ir.Node, x: Array | None) -> Array | None:
        """Stored zeros are zeros only where the zero-point is 0, or where real ones were stored just before."""
        assert x is not None, "asked for above"
        source, zero = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        paired = source is not None and (before := source.producer()) and before.op_type == "QuantizeLinear"
        if node.op_type == "QuantizeLinear" or paired or zero is None or not (x == ZERO).any():
            return x
        known = constant(zero, self._opset)
        return x if known is not None and not known.any() else np.where(x == ZERO, OTHER, x)

    def _element_wise(self, node: ir.Node, x: Array | None) -> Array | None:
        assert x is not None, "asked for above"
        data_input = next(n for n, each in enumerate(node.inputs) if each in map_inputs(node, self._opset))
        if self._part is not None and node in self._part.behind:
            stage = stage_of(self._part, node, self._opset, x.ndim, own=True)
        else:
            stage = as_stage(node, data_input, self._opset, x.ndim, self._channels)
        if stage is None:
            return None
        self.stages[node] = stage
        if (x == ZERO).any() and not keeps_zero(stage, self._opset, self._channels, x.ndim):
            return np.where(x == ZERO, OTHER, x)
        return x

    def _move(self, node: ir.Node, value: ir.Value) -> Array | None:
        """A node that moves data, on the numbers of its elements."""
        inputs = [self._input(node, each) for each in node.inputs]
        if any(given is None and each is not None for given, each in zip(inputs, node.inputs, strict=True)):
            return None
        match node.op_type:
            case "Cast":
                return inputs[0]
            case "Resize" | "Upsample":
                return upsampling.resized(node, inputs, self._opset)
            case "ConvTranspose":
                return upsampling.spread(node, inputs)
            case "Pad":
                return upsampling.padded(node, inputs, self._opset, ZERO, OTHER)
        feeds = {f"i{number}": each for number, each in enumerate(inputs) if each is not None}
        return evaluate_node(node, value, feeds, self._opset)

    def _input(self, node: ir.Node, value: ir.Value | None) -> Array | None:
        """A map by its elements' numbers, a constant map likewise, and a number as it is."""
        if value is None:
            return None
        places = _MAPS[node.op_type]
        is_map = places is None or any(node.inputs[n] is value for n in places if n < len(node.inputs))
        return self.of(value) if is_map else self._number(value)

    def _number(self, value: ir.Value) -> Array | None:
        """What ``value`` holds, from constants and sizes."""
        if value not in self._numbers:
            self._numbers[value] = self._computed(value)
        return self._numbers[value]

    def _computed(self, value: ir.Value) -> Array | None:
        known = constant(value, self._opset)
        node = value.producer()
        if known is not None or node is None:
            return known
        if node.op_type in _SIZED:
            shape = self._sizes(node.inputs[0])
            feeds = None if shape is None else {"i0": np.broadcast_to(np.float32(0), shape)}
        else:
            feeds = {}
            for number, source in enumerate(node.inputs):
                found = None if source is None else self._number(source)
                if source is not None and found is None:
                    return None
                if found is not None:
                    feeds[f"i{number}"] = found
        return None if feeds is None else evaluate_node(node, value, feeds, self._opset)

    def _sizes(self, value: ir.Value | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        found = self._maps.get(value)
        if found is None and (found := self.of(value)) is None:
            return self._shape_of(value)
        return found.shape


def keeps_zero(stage: Stage, opset: int, channels: int, rank: int) -> bool:
    """Whether an element-wise node makes zeros of zeros."""
    zeros = np.zeros((1, channels, *(1,) * (rank - 2)), np.float32)
    feeds = {f"i{stage.data_input}": zeros}
    for number, parameter in enumerate(stage.parameters):
        if parameter is not None:
            feeds[f"i{number}"] = parameter.values.astype(np.float32)
    result = evaluate_node(stage.node, stage.node.outputs[0], feeds, opset)
    return result is not None and not np.any(result)
