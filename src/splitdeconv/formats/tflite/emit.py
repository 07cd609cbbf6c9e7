"""Programs as TFLite operators: the one table that stand-alone models and rewritten models share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Concat,
    Conv,
    DepthToSpace,
    Difference,
    Dim,
    Interpolate,
    NativeDeconv,
    Op,
    Pad,
    Part,
    Relayout,
    Repeat,
    Reshape,
    Shape,
    Slice,
    Transpose,
    elements,
)
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.tflite.conv_operators import conv_operator, is_same, padding_of, resizes
from splitdeconv.formats.tflite.filters import FilterWriter
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.padding import LARGEST_PAD_RANK, joinable, joined
from splitdeconv.formats.tflite.schema import ACTIVATIONS, Builtin, tfl
from splitdeconv.formats.tflite.sizes import SizeWriter
from splitdeconv.formats.tflite.steps import activated, is_native
from splitdeconv.formats.tflite.types import SiteTypes
from splitdeconv.formats.tflite.writer import GraphWriter
from splitdeconv.lowerings.native import as_written

# Versions by type where they differ; the first is for float32 and uint8. Source: LiteRT's op_version.cc.
_VERSIONS: dict[int, tuple[int, int, int]] = {  # otherwise, int8, int16
    Builtin.CONV_2D: (1, 3, 4),
    Builtin.DEPTHWISE_CONV_2D: (2, 3, 5),
    Builtin.PAD: (1, 2, 3),
    Builtin.STRIDED_SLICE: (1, 2, 4),
    Builtin.CONCATENATION: (1, 2, 3),
    Builtin.TRANSPOSE: (1, 2, 5),
    Builtin.DEPTH_TO_SPACE: (1, 2, 2),
    Builtin.SPLIT: (1, 2, 4),
    Builtin.MAX_POOL_2D: (1, 2, 3),
    Builtin.ADD: (1, 2, 3),
    Builtin.RELU: (1, 2, 3),
    Builtin.RESIZE_NEAREST_NEIGHBOR: (1, 2, 4),
    Builtin.TILE: (1, 1, 3),
}
BIASED_DECONV, ACTIVATED_DECONV = 3, 4  # versions of TRANSPOSE_CONV


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the program in the subgraph being written."""

    tensor: int
    shape: Shape


class Emitter:
    """Writes one program behind the operators of ``writer``.

    Args:
        writer: takes the operators.
        node: the deconv that the program stands for.
        borrow: gives the tensor in the written subgraph for one of the node's constants; None where that is the
            node's own subgraph.
        foreign: weights on trial instead of the node's own; without activation and epilogue then.
    """

    def __init__(
        self,
        writer: GraphWriter,
        node: Node,
        borrow: Callable[[int], int] | None = None,
        foreign: Weights | None = None,
    ) -> None:
        self.writer, self.node, self.foreign = writer, node, foreign
        self.is_alone, self.borrow = borrow is not None, borrow or (lambda tensor: tensor)
        self.types = SiteTypes.own(node) if foreign is None else SiteTypes.of(foreign, node)
        activation = node.epilogue.activation if foreign is None else ""
        self.activation = next(code for code, name in ACTIVATIONS.items() if name == activation)
        weights = node.weights() if foreign is None else foreign
        self.filters = FilterWriter(writer, node.id, weights, self.types)
        self.sizes = SizeWriter(writer, node.id)
        self.pieces: dict[tuple[int, int], list[int]] = {}

    def emit(self, program: Program, sources: Sequence[int], result: int) -> None:
        """Write all steps of an NHWC program, from the tensors ``sources`` to the tensor ``result``."""
        if self.node.stretched is not None and is_native(program):
            program = as_written(program.deconv, "NHWC")
        fused = activated(program) if self.activation else frozenset()
        if fused is None:
            inner = self.writer.tensor(self.types.result, program.shapes()[-1], f"{self.node.id}/sum")
            self._steps(program, sources, inner, frozenset())
            self.add(getattr(Builtin, ACTIVATIONS[self.activation]), [inner], result)
            return
        self._steps(program, sources, result, fused)

    def _steps(self, program: Program, sources: Sequence[int], result: int, fused: frozenset[int]) -> None:
        """All steps; those of ``fused`` with the activation."""
        values = [Value(source, shape) for source, shape in zip(sources, program.in_shapes, strict=True)]
        summed = [False] * len(values)
        for number, step in enumerate(program.steps):
            inputs = [values[value] for value in step.inputs]
            summed.append(isinstance(step.op, Conv | NativeDeconv) or any(summed[value] for value in step.inputs))
            shape = step.op.shape(*(value.shape for value in inputs))
            if isinstance(step.op, Part):
                values.append(Value(self._part(step.op, inputs[0], number), shape))
                continue
            final = len(values) == program.output
            like = self.types.result if summed[-1] else self.types.source
            target = result if final else self.writer.tensor(like, shape, self._name(step.op, number))
            values.append(Value(target, shape))
            self._write(step.op, inputs, values[-1], number, self.activation if number in fused else 0)

    def _name(self, op: Op, number: int) -> str:
        return f"{self.node.id}/{type(op).__name__.lower()}{number}"

    def _write(self, op: Op, inputs: list[Value], out: Value, number: int, activation: int) -> None:
        """The operators of one step."""
        x = inputs[0]
        match op:
            case Conv():
                self._conv(op, x, out, number, activation)
            case NativeDeconv(simplified=True):
                self._composite(op.deconv, x, out, activation)
            case NativeDeconv():
                self._native(op.deconv, x, out)
            case Pad():
                self._pad(op.begin, op.end, x, out, number)
            case Slice():
                self.slice(op, x, out)
            case Reshape():
                self._reshaped(op, x, out)
            case Repeat():
                self._repeat(op, x, out, number)
            case Interpolate():
                self._interpolate(op, x, out)
            case Difference():
                self._difference(op, x, out, number)
            case _:
                self._one_operator(op, [value.tensor for value in inputs], out.tensor, activation)

    def _one_operator(self, op: Op, inputs: list[int], output: int, activation: int) -> None:
        """A step that TFLite has an operator for."""
        match op:
            case Transpose():
                self.add(Builtin.TRANSPOSE, [*inputs, self.ints(op.perm)], output, tfl.TransposeOptionsT())
            case Concat():
                self.add(Builtin.CONCATENATION, inputs, output, tfl.ConcatenationOptionsT(axis=op.axis))
            case DepthToSpace():
                self.add(Builtin.DEPTH_TO_SPACE, inputs, output, tfl.DepthToSpaceOptionsT(blockSize=op.block))
            case Add():
                self.add(Builtin.ADD, inputs, output, tfl.AddOptionsT(fusedActivationFunction=activation))
            case AddBias():
                options = tfl.AddOptionsT(fusedActivationFunction=activation)
                self.add(Builtin.ADD, [*inputs, self.filters.whole_bias()], output, options)
            case Relayout():
                options = tfl.Pool2DOptionsT(
                    padding=tfl.Padding.VALID, strideW=1, strideH=1, filterWidth=1, filterHeight=1
                )
                self.add(Builtin.MAX_POOL_2D, inputs, output, options)
            case _:
                raise TypeError(f"the TFLite writer does not know {type(op).__name__}")

    def add(self, builtin: int, inputs: list[int], output: int, options: Any = None, version: int = 0) -> None:
        self.writer.operator(builtin, version or self._version(builtin), inputs, [output], options)

    def _version(self, builtin: int) -> int:
        otherwise, int8, int16 = _VERSIONS.get(builtin, (1, 1, 1))
        return {"int8": int8, "int16": int16}.get(self.types.maps, otherwise)

    def ints(self, values: Any) -> int:
        """A constant int32 vector or matrix."""
        return self.sizes.constant(values)

    def reshape(self, tensor: int, out: Value) -> None:
        """RESHAPE to a shape of which at most one size is open."""
        sizes = [-1 if size is None else size for size in out.shape]
        options = tfl.ReshapeOptionsT(newShape=np.asarray(sizes, np.int32))
        self.add(Builtin.RESHAPE, [tensor, self.ints(sizes)], out.tensor, options)

    def _reshaped(self, op: Reshape, x: Value, out: Value) -> None:
        """RESHAPE; where several sizes are open, to sizes that the model computes."""
        if out.shape.count(None) > 1:
            sizes = self.sizes.of(x.tensor, len(x.shape), op.dims)
            self.add(Builtin.RESHAPE, [x.tensor, sizes], out.tensor, tfl.ReshapeOptionsT())
        else:
            self.reshape(x.tensor, out)

    def slice(self, op: Slice, x: Value, out: Value) -> None:
        """STRIDED_SLICE with explicit ends; those of an open axis count from its end."""
        open_axes = [axis for axis, size in enumerate(x.shape) if size is None]
        begin_mask = sum(1 << axis for axis in open_axes if not op.begin[axis])
        end_mask = sum(1 << axis for axis in open_axes if not op.end[axis])
        ends = [(size or 0) - end for size, end in zip(x.shape, op.end, strict=True)]
        bounds = [self.ints(op.begin), self.ints(ends), self.ints([1] * len(ends))]
        options = tfl.StridedSliceOptionsT(beginMask=begin_mask, endMask=end_mask)
        self.add(Builtin.STRIDED_SLICE, [x.tensor, *bounds], out.tensor, options)

    def _part(self, op: Part, x: Value, number: int) -> int:
        """One output of a SPLIT that all parts of a value share."""
        key = (x.tensor, op.axis)
        if key not in self.pieces:
            shape = op.shape(x.shape)
            names = [f"{self._name(op, number)}/{piece}" for piece in range(op.parts)]
            self.pieces[key] = [self.writer.tensor(self.types.result, shape, name) for name in names]
            axis = self.writer.constant(np.asarray(op.axis, np.int32), f"{self.node.id}/axis")
            options = tfl.SplitOptionsT(numSplits=op.parts)
            version = self._version(Builtin.SPLIT)
            self.writer.operator(Builtin.SPLIT, version, [axis, x.tensor], self.pieces[key], options)
        return self.pieces[key][op.index]

    def _pad(self, begin: tuple[int, ...], end: tuple[int, ...], x: Value, out: Value, number: int) -> None:
        """PAD, which fills with the zero-point; more axes than it takes are joined where nothing is padded."""
        if len(begin) <= LARGEST_PAD_RANK:
            pads = self.ints(list(zip(begin, end, strict=True)))
            self.add(Builtin.PAD, [x.tensor, pads], out.tensor, tfl.PadOptionsT())
            return
        groups = joinable(begin, end)
        like = self.types.source
        flat, padded = (joined(value.shape, groups) for value in (x, out))
        name = f"{self.node.id}/pad{number}"
        before = self.writer.tensor(like, flat, name + "/flat")
        after = self.writer.tensor(like, padded, name + "/padded")
        counts = [(sum(begin[axis] for axis in group), sum(end[axis] for axis in group)) for group in groups]
        self.reshape(x.tensor, Value(before, flat))
        self.add(Builtin.PAD, [before, self.ints(counts)], after, tfl.PadOptionsT())
        self.reshape(after, out)

    def _difference(self, op: Difference, x: Value, out: Value, number: int) -> None:
        """Two PAD and a SUB."""
        one = tuple(int(axis == op.axis) for axis in range(len(x.shape)))
        none, moved = (0,) * len(one), list[Value]()
        for begin, end in ((none, one), (one, none)):
            name = f"{self.node.id}/moved{number}"
            moved.append(Value(self.writer.tensor(self.types.source, out.shape, name), out.shape))
            self._pad(begin, end, x, moved[-1], number)
        self.add(Builtin.SUB, [value.tensor for value in moved], out.tensor, tfl.SubOptionsT())

    def _repeat(self, op: Repeat, x: Value, out: Value, number: int) -> None:
        """RESIZE_NEAREST_NEIGHBOR where it is right; else TILE of each axis, seen as the middle one of three."""
        if resizes(x.shape, op.factors):
            options = tfl.ResizeNearestNeighborOptionsT()
            self.add(Builtin.RESIZE_NEAREST_NEIGHBOR, [x.tensor, self.ints(out.shape[1:3])], out.tensor, options)
            return
        value, like = x, self.types.source
        for axis, factor in enumerate(op.factors):
            if factor == 1:
                continue
            name = f"{self.node.id}/repeat{number}.{axis}"
            before = None if None in value.shape[: axis + 1] else elements(value.shape[: axis + 1])
            opened, tiled = ((before, size, elements(value.shape[axis + 1 :])) for size in (1, factor))
            shape = Repeat(tuple(factor if n == axis else 1 for n in range(len(op.factors)))).shape(value.shape)
            first, second = (self.writer.tensor(like, each, name) for each in (opened, tiled))
            self.reshape(value.tensor, Value(first, opened))
            self.add(Builtin.TILE, [first, self.ints((1, factor, 1))], second)
            value = out if shape == out.shape else Value(self.writer.tensor(like, shape, name), shape)
            self.reshape(second, value)

    def _interpolate(self, op: Interpolate, x: Value, out: Value) -> None:
        """RESIZE_BILINEAR; the third version knows centres of pixels."""
        centres, corners = op.how.coordinates == "half_pixel", op.how.coordinates == "align_corners"
        options = tfl.ResizeBilinearOptionsT(alignCorners=corners, halfPixelCenters=centres)
        operands = [x.tensor, self.ints(out.shape[1:3])]
        self.add(Builtin.RESIZE_BILINEAR, operands, out.tensor, options, 3 if centres else 1)

    def _conv(self, op: Conv, x: Value, out: Value, number: int, activation: int) -> None:
        """A convolution; SAME where TFLite's rule gives these pads, else PAD and VALID."""
        padding = padding_of(op)
        if padding is None:
            begin, end = (0, *op.pad_begin, 0), (0, *op.pad_end, 0)
            padded = Pad(begin, end).shape(x.shape)
            inner = Value(self.writer.tensor(self.types.source, padded, f"{self.node.id}/pad{number}"), padded)
            self._pad(begin, end, x, inner, number)
            x, padding = inner, tfl.Padding.VALID
        builtin, options, version = conv_operator(op, self.types)
        options.padding, options.fusedActivationFunction = padding, activation
        self.add(builtin, [x.tensor, *self.filters.operands(op, number)], out.tensor, options, version)

    def _composite(self, deconv: Deconv, x: Value, out: Value, activation: int) -> None:
        """One TRANSPOSE_CONV in place of the model's operators; SAME where that means the pads, else with a crop."""
        options = tfl.TransposeConvOptionsT(fusedActivationFunction=activation, quantizedBiasType=self.types.bias_type)
        options.strideH, options.strideW = deconv.strides
        same = all(is_same(axis) for axis in deconv.axes)
        options.padding = tfl.Padding.SAME if same else tfl.Padding.VALID
        begin, end = zip(*((axis.pad_begin, axis.pad_end) for axis in deconv.axes), strict=True)
        cut = Slice((0, *((0, 0) if same else begin), 0), (0, *((0, 0) if same else end), 0))
        whole = tuple(size and size + b + e for size, b, e in zip(out.shape, cut.begin, cut.end, strict=True))
        cropped = whole != out.shape
        target = self.writer.tensor(self.types.result, whole, f"{self.node.id};whole") if cropped else out.tensor
        sizes = self._output_sizes(x, whole)
        version = ACTIVATED_DECONV if activation else BIASED_DECONV
        kernel, *bias = self.filters.native(deconv)
        self.add(Builtin.TRANSPOSE_CONV, [sizes, kernel, x.tensor, *bias], target, options, version)
        if cropped:
            self.slice(cut, Value(target, whole), out)

    def _native(self, deconv: Deconv, x: Value, out: Value) -> None:
        """The original operators again, or with weights on trial the deconv and its crops."""
        if self.node.deconv.custom:
            self._composite(deconv, x, out, self.activation)
            return
        if self.foreign is not None:
            self._bare_native(x, out)
            return
        graph, node = self.node.graph, self.node
        followers = node.epilogue.operators
        tensor = out.tensor
        if followers:
            tensor = self.writer.tensor(graph.tensors[node.output], graph.shape(node.output), f"{node.id}/native")
        shape, kernel, _, *bias = graph.inputs_of(node.operator)
        computed = self.is_alone and graph.content(shape) is None
        sizes = self._computed_sizes(x) if computed else self.borrow(shape)
        operands = [sizes, self.borrow(kernel), x.tensor, *(self.borrow(each) for each in bias if each >= 0)]
        self.writer.copied(graph.root, graph.operators[node.operator], operands, [tensor])
        self._followers(tensor, out.tensor)

    def original(self, x: int, result: int) -> None:
        """The model's own convolution and what joins it, from the map ``x``."""
        node, graph = self.node, self.node.graph
        tensor = result
        if node.epilogue.operators:
            tensor = self.writer.tensor(graph.tensors[node.output], graph.shape(node.output), f"{node.id}/native")
        operands = [
            x if each == node.operand else self.borrow(each) for each in graph.inputs_of(node.operator) if each >= 0
        ]
        self.writer.copied(graph.root, graph.operators[node.operator], operands, [tensor])
        self._followers(tensor, result)

    def _followers(self, tensor: int, result: int) -> None:
        """The operators of the epilogue again, from the output ``tensor`` of the deconv to ``result``."""
        graph, previous = self.node.graph, self.node.output
        operators = self.node.epilogue.operators
        for number, operator in enumerate(operators):
            made = graph.outputs_of(operator)[0]
            name = f"{self.node.id}/native{number}"
            last = number + 1 == len(operators)
            target = result if last else self.writer.tensor(graph.tensors[made], graph.shape(made), name)
            inputs = [tensor if each == previous else self.borrow(each) for each in graph.inputs_of(operator)]
            self.writer.copied(graph.root, graph.operators[operator], inputs, [target])
            tensor, previous = target, made

    def _output_sizes(self, x: Value, whole: Shape) -> int:
        """The output shape of a TRANSPOSE_CONV: a constant, or with the batch of ``x`` where that is open."""
        if whole[0] is not None:
            return self.ints(whole)
        dims = (Dim(1, axis=0), *(Dim(size or 1) for size in whole[1:]))
        return self.sizes.of(x.tensor, len(x.shape), dims)

    def _computed_sizes(self, x: Value) -> int:
        """The output shape as an operator's result: runtimes take other kernels for it than for a constant."""
        node, deconv = self.node, self.node.deconv
        crops = [sum(pair) for pair in zip(node.epilogue.begin, node.epilogue.end, strict=True)]
        dims = [Dim(1, axis=0), *(Dim(axis.stride, axis=1 + number) for number, axis in enumerate(deconv.axes))]
        more = [axis.out_size_of(axis.kernel) - axis.stride * axis.kernel for axis in deconv.axes]
        more = [0, *(size + crop for size, crop in zip(more, crops, strict=True)), 0]
        return self.sizes.of(x.tensor, len(x.shape), (*dims, Dim(deconv.out_channels)), more)

    def _native_shape(self, shape: Shape) -> list[int]:
        """What the operator itself gives: the output of the site with what the epilogue crops."""
        batch, *sizes, channels = (1 if size is None else size for size in shape)
        crops = zip(sizes, self.node.epilogue.begin, self.node.epilogue.end, strict=True)
        return [batch, *(size + begin + end for size, begin, end in crops), channels]

    def _bare_native(self, x: Value, out: Value) -> None:
        """The operator and the crops, without activation and epilogue."""
        node = self.node
        original = node.graph.operators[node.operator]
        kind = node.graph.name(node.operator)
        options = copy.copy(original.builtinOptions)
        options.fusedActivationFunction = 0
        if kind == "TRANSPOSE_CONV":
            options.quantizedBiasType = self.types.bias_type
        whole = tuple(self._native_shape(out.shape))
        begin, end = (0, *node.epilogue.begin, 0), (0, *node.epilogue.end, 0)
        cropped = any(begin) or any(end)
        target = self.writer.tensor(self.types.result, whole, f"{node.id}/native") if cropped else out.tensor
        kernel, *bias = self.filters.native(node.deconv, kind)
        version = node.graph.root.operatorCodes[original.opcodeIndex].version
        version = max(BIASED_DECONV, version) if kind == "TRANSPOSE_CONV" else version
        operands = [self.ints(whole), kernel, x.tensor, *bias]
        self.add(getattr(Builtin, kind), operands, target, options, version)
        if cropped:
            self.slice(Slice(begin, end), Value(target, whole), out)
