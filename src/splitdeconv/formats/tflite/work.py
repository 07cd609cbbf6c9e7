"""What a TFLite model computes: its layers, the data movement between them, and their multiply-accumulates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.layers import ConvAxis, Dense, PlainConv, Spec
from splitdeconv.deconv.network import Layer, Operation, Operations
from splitdeconv.deconv.ops import (
    Concat,
    DepthToSpace,
    Dim,
    Op,
    Pad,
    Part,
    Relayout,
    Reshape,
    Slice,
    Transpose,
    elements,
)
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError
from splitdeconv.formats.tflite.geometry import FILTER_AXES, same_axis
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.nodes import named_operators
from splitdeconv.formats.tflite.schema import tfl

# The axes of each layer's filter that are output channels, input channels of a group, and spatial ones, in this order.
_FILTERS = {
    **{name: FILTER_AXES[name] for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D")},
    "FULLY_CONNECTED": (0, 1),
}
_ELEMENTWISE = frozenset(["CAST", "DEQUANTIZE", "LEAKY_RELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1"])
_MATMUL = "BATCH_MATMUL"


def other_macs(root: Any, sites: Collection[int]) -> int | None:
    """Of all convolutions, dense layers and matrix products in the first subgraph; None where sizes are open.

    Args:
        root: of the model.
        sites: operators of the first subgraph that are counted elsewhere.
    """
    graph = Graph(root, 0)
    total = 0
    for operator in sorted(set(range(len(graph.operators))).difference(sites)):
        macs = _macs(graph, operator)
        if macs is None:
            return None
        total += macs
    return total


def _macs(graph: Graph, operator: int) -> int | None:
    if graph.name(operator) not in (*_FILTERS, _MATMUL) or min(graph.inputs_of(operator)[:2]) < 0:
        return 0
    out, length = graph.shape(graph.outputs_of(operator)[0]), _length(graph, operator)
    return None if length is None or None in out else elements(out) * length


def _length(graph: Graph, operator: int) -> int | None:
    """Number of products in one output element; None where a size is open."""
    source, other = (graph.shape(tensor) for tensor in graph.inputs_of(operator)[:2])
    name = graph.name(operator)
    if name == _MATMUL:
        options = graph.operators[operator].builtinOptions
        return source[-2 if options is not None and options.adjX else -1] if len(source) > 1 else 1
    if None in other:
        return None
    channels = other[_FILTERS[name][0]] if other else 0
    return elements(other) // (channels or 1) if other else 0


def operations(root: Any, label: str) -> Operations:
    """All operators of the first subgraph; an open batch is 1.

    Args:
        root: of the model as it is, rewritten or not.
        label: the model's name in messages.

    Raises:
        InputError: the sizes of a layer are open, or contradict each other.
    """
    graph = Graph(root, 0)
    names = {operator: name for name, holder, operator in named_operators(root) if holder.number == 0}
    steps = []
    for operator in range(len(graph.operators)):
        reader = _OperatorReader(graph, operator, label, names.get(operator, ""))
        steps += [reader.operation(number) for number in range(len(graph.outputs_of(operator)))]
    return Operations("NHWC", tuple(steps))


class _OperatorReader:
    """Reads one operator."""

    def __init__(self, graph: Graph, operator: int, label: str, site: str) -> None:
        self.graph, self.operator, self.label, self.site = graph, operator, label, site
        self.name, self.options = graph.name(operator), graph.operators[operator].builtinOptions
        self.operands = graph.inputs_of(operator)
        at = {"TRANSPOSE_CONV": 2, "SPLIT": 1}.get(self.name, 0)  # where the map stands
        self.source = self.operands[at] if len(self.operands) > at else -1
        self.in_shape = self._sizes(self.source)
        self.shape: tuple[int, ...] = ()

    def operation(self, number: int) -> Operation:
        """Output ``number``."""
        output = self.graph.outputs_of(self.operator)[number]
        self.shape = self._sizes(output)
        others = [tensor for tensor in self.operands if tensor not in (self.source, -1)]
        names = tuple(f"{tensor}" for tensor in (self.source, *others))
        is_layer = self.name in (*_FILTERS, _MATMUL, "TRANSPOSE_CONV")
        what = self._layer(output) if is_layer else self._movement(number)
        return Operation(what, names, f"{output}", self.in_shape, self.shape)

    def _sizes(self, tensor: int) -> tuple[int, ...]:
        """Empty where one of them is open; an open batch is 1."""
        sizes = self.graph.shape(tensor) if tensor >= 0 else ()
        known = [1 if axis == 0 and size is None else size for axis, size in enumerate(sizes)]
        return tuple(size for size in known if size is not None) if None not in known else ()

    def _layer(self, output: int) -> Layer:
        name = self.site or text(self.graph.tensors[output].name).split(";")[0]
        where = f"{self.label}: {self.name} '{name}'"
        if not self.in_shape or not self.shape or not self._sizes(self.operands[1]):
            raise InputError(f"{where}: its sizes are open, wanted a model of fixed sizes")
        try:
            return Layer(name, self._spec(), self._nonzero())
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None

    def _spec(self) -> Spec:
        kernel = self._sizes(self.operands[1])
        if self.name == "TRANSPOSE_CONV":
            strides = self.options.strideH, self.options.strideW
            same = self.options.padding == tfl.Padding.SAME
            sizes = zip(self.in_shape[1:3], self.shape[1:3], kernel[1:3], strides, strict=True)
            axes = tuple(same_axis(*numbers, same) for numbers in sizes)
            return Deconv(axes, self.in_shape[3], self.shape[3], 1, self.in_shape[0])
        if self.name in ("FULLY_CONNECTED", _MATMUL):
            length = _length(self.graph, self.operator) or 1
            return Dense(length, self.shape[-1], elements(self.shape) // self.shape[-1])
        ordered = [kernel[axis] for axis in _FILTERS[self.name]]
        ins, outs = self.in_shape[-1], self.shape[-1]
        groups = ins if self.name.startswith("DEPTHWISE") else ins // ordered[1]
        return PlainConv(self._axes(ordered[2:]), ins, outs, groups, self.in_shape[0])

    def _axes(self, kernel: Sequence[int]) -> tuple[ConvAxis, ...]:
        """The axes of a convolution; TensorFlow's SAME leaves the odd pixel to the end."""
        ends = ("D", "H", "W")[-len(kernel) :]
        axes = []
        for size, taps, end in zip(self.in_shape[1:-1], kernel, ends, strict=True):
            stride, dilation = getattr(self.options, f"stride{end}"), getattr(self.options, f"dilation{end}Factor")
            same = self.options.padding == tfl.Padding.SAME
            axes.append(ConvAxis.same(size, taps, stride, dilation) if same else ConvAxis(size, taps, stride, dilation))
        return tuple(axes)

    def _nonzero(self) -> Array | None:
        """Where a layer's constant weights differ from their zero-point; None where they are not constant."""
        content = self.graph.content(self.operands[1])
        if content is None or self.name == _MATMUL:
            return None
        quantization = self.graph.tensors[self.operands[1]].quantization
        points = None if quantization is None else quantization.zeroPoint
        shape = [1] * content.ndim
        if points is not None and len(points) > 1:
            shape[quantization.quantizedDimension] = -1
        zero = 0 if points is None or not len(points) else np.reshape(points, shape)
        order = FILTER_AXES.get(self.name) or _FILTERS[self.name]
        nonzero: Array = np.transpose(content != zero, order)
        return nonzero

    def _movement(self, number: int) -> Op | None:
        """Data movement; where its numbers are unknown, one that does not give ``shape``."""
        rank = len(self.in_shape)
        match self.name:
            case name if name in _ELEMENTWISE:
                return Relayout()
            case "RESHAPE" | "SQUEEZE" | "EXPAND_DIMS":
                return Reshape(tuple(Dim(size) for size in self.shape))
            case "TRANSPOSE":
                return Transpose(tuple(self._parameter(1, range(rank))))
            case "CONCATENATION":
                return Concat(self.options.axis % len(self.shape) if self.shape else 0)
            case "DEPTH_TO_SPACE":
                return DepthToSpace(self.options.blockSize, "block_major", "NHWC")
            case "SPLIT" | "SPLIT_V":
                return Part(rank - 1, number, len(self.graph.outputs_of(self.operator)))
            case "PAD":
                pads = self._parameter(1, [0] * (2 * rank))
                return Pad(tuple(pads[0::2]), tuple(pads[1::2]))
            case "SLICE":
                begin, sizes = self._parameter(1, [0] * rank), self.shape or self.in_shape
                ends = (size - first - kept for size, first, kept in zip(self.in_shape, begin, sizes, strict=False))
                return Slice(tuple(begin), tuple(ends))
            case "STRIDED_SLICE":
                return self._strided(rank)
        return None

    def _strided(self, rank: int) -> Op:
        """As a cut at both ends, where that is what it is."""
        begin, end, steps = (self._parameter(place, ()) for place in (1, 2, 3))
        masks = self.options.beginMask, self.options.endMask
        cuts = []
        for axis, (first, last) in enumerate(zip(begin, end, strict=False)):
            bounds = [None if mask >> axis & 1 else bound for mask, bound in zip(masks, (first, last), strict=True)]
            start, stop, _ = slice(*bounds).indices(self.in_shape[axis])
            cuts.append((start, self.in_shape[axis] - stop))
        plain = len(cuts) == rank and set(steps) == {1}
        return Slice(*zip(*cuts, strict=True)) if plain else Slice((0,) * rank, (0,) * rank)

    def _parameter(self, place: int, default: Sequence[int]) -> list[int]:
        """A constant operand as a list."""
        content = self.graph.content(self.operands[place]) if len(self.operands) > place else None
        return list(default) if content is None else [int(number) for number in content.ravel()]
