"""Programs as TFLite operators: the one table that stand-alone models and rewritten models share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Concat,
    Conv,
    DepthToSpace,
    NativeDeconv,
    Op,
    Pad,
    Part,
    Program,
    Relayout,
    Reshape,
    Shape,
    Slice,
    Transpose,
)
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.tflite.filters import FilterWriter
from splitdeconv.formats.tflite.nodes import Node
from splitdeconv.formats.tflite.padding import LARGEST_PAD_RANK, joinable, joined
from splitdeconv.formats.tflite.schema import ACTIVATIONS, Builtin, tfl
from splitdeconv.formats.tflite.types import SiteTypes
from splitdeconv.formats.tflite.writer import GraphWriter

# Versions by type where they differ; the first is for float32 and uint8. Source: LiteRT's op_version.cc.
_VERSIONS: dict[int, tuple[int, int, int]] = {  # otherwise, int8, int16
    Builtin.CONV_2D: (1, 3, 4),
    Builtin.PAD: (1, 2, 3),
    Builtin.STRIDED_SLICE: (1, 2, 4),
    Builtin.CONCATENATION: (1, 2, 3),
    Builtin.TRANSPOSE: (1, 2, 5),
    Builtin.DEPTH_TO_SPACE: (1, 2, 2),
    Builtin.SPLIT: (1, 2, 4),
    Builtin.MAX_POOL_2D: (1, 2, 3),
    Builtin.ADD: (1, 2, 3),
    Builtin.RELU: (1, 2, 3),
}
_HYBRID_CONV = 5
_INT32_BIAS_CONV = 8
_BIASED_DECONV = 3


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
        self.pieces: dict[tuple[int, int], list[int]] = {}

    def emit(self, program: Program, source: int, result: int) -> None:
        """Write all steps of an NHWC program, from the tensor ``source`` to the tensor ``result``."""
        assert not program.inputs, "only programs of one input are written here"
        values = [Value(source, program.in_shape)]
        summed = [False]
        for number, step in enumerate(program.steps):
            inputs = [values[value] for value in step.inputs]
            summed.append(isinstance(step.op, Conv | NativeDeconv) or any(summed[value] for value in step.inputs))
            shape = step.op.shape(*(value.shape for value in inputs))
            if isinstance(step.op, Part):
                values.append(Value(self._part(step.op, inputs[0], number), shape))
                continue
            final = number + 1 == program.output
            like = self.types.result if summed[-1] else self.types.source
            target = result if final else self.writer.tensor(like, shape, self._name(step.op, number))
            values.append(Value(target, shape))
            self._write(step.op, inputs, values[-1], number, self._activation_of(program, number))

    def _name(self, op: Op, number: int) -> str:
        return f"{self.node.id}/{type(op).__name__.lower()}{number}"

    def _activation_of(self, program: Program, number: int) -> int:
        """The activation, if step ``number`` is the one that completes a sum."""
        sums = [n for n, step in enumerate(program.steps) if isinstance(step.op, Add | AddBias)]
        if sums:
            return self.activation if number == sums[-1] else 0
        return self.activation if isinstance(program.steps[number].op, Conv) else 0

    def _write(self, op: Op, inputs: list[Value], out: Value, number: int, activation: int) -> None:
        """The operators of one step."""
        x = inputs[0]
        match op:
            case Conv():
                self._conv(op, x, out, number, activation)
            case NativeDeconv():
                self._native(x, out)
            case Pad():
                self._pad(op.begin, op.end, x, out, number)
            case Slice():
                self._slice(op, x, out)
            case Reshape():
                self._reshape(x.tensor, out)
            case Transpose():
                self._add(Builtin.TRANSPOSE, [x.tensor, self._ints(op.perm)], out.tensor, tfl.TransposeOptionsT())
            case Concat():
                options = tfl.ConcatenationOptionsT(axis=op.axis)
                self._add(Builtin.CONCATENATION, [value.tensor for value in inputs], out.tensor, options)
            case DepthToSpace():
                options = tfl.DepthToSpaceOptionsT(blockSize=op.block)
                self._add(Builtin.DEPTH_TO_SPACE, [x.tensor], out.tensor, options)
            case Add():
                options = tfl.AddOptionsT(fusedActivationFunction=activation)
                self._add(Builtin.ADD, [value.tensor for value in inputs], out.tensor, options)
            case AddBias():
                options = tfl.AddOptionsT(fusedActivationFunction=activation)
                self._add(Builtin.ADD, [x.tensor, self.filters.whole_bias()], out.tensor, options)
            case Relayout():
                options = tfl.Pool2DOptionsT(
                    padding=tfl.Padding.VALID, strideW=1, strideH=1, filterWidth=1, filterHeight=1
                )
                self._add(Builtin.MAX_POOL_2D, [x.tensor], out.tensor, options)
            case _:
                raise TypeError(f"the TFLite writer does not know {type(op).__name__}")

    def _add(self, builtin: int, inputs: list[int], output: int, options: Any = None, version: int = 0) -> None:
        otherwise, int8, int16 = _VERSIONS.get(builtin, (1, 1, 1))
        fitting = {"int8": int8, "int16": int16}.get(self.types.maps, otherwise)
        self.writer.operator(builtin, version or fitting, inputs, [output], options)

    def _ints(self, values: Any) -> int:
        """A constant int32 vector or matrix."""
        return self.writer.constant(np.asarray(values, np.int32), f"{self.node.id}/sizes")

    def _reshape(self, tensor: int, out: Value) -> None:
        sizes = [-1 if size is None else size for size in out.shape]
        options = tfl.ReshapeOptionsT(newShape=np.asarray(sizes, np.int32))
        self._add(Builtin.RESHAPE, [tensor, self._ints(sizes)], out.tensor, options)

    def _slice(self, op: Slice, x: Value, out: Value) -> None:
        """STRIDED_SLICE with explicit ends; an open axis is taken whole by its masks."""
        open_axes = sum(1 << axis for axis, size in enumerate(x.shape) if size is None)
        ends = [0 if size is None else size - end for size, end in zip(x.shape, op.end, strict=True)]
        bounds = [self._ints(op.begin), self._ints(ends), self._ints([1] * len(ends))]
        options = tfl.StridedSliceOptionsT(beginMask=open_axes, endMask=open_axes)
        self._add(Builtin.STRIDED_SLICE, [x.tensor, *bounds], out.tensor, options)

    def _part(self, op: Part, x: Value, number: int) -> int:
        """One output of a SPLIT that all parts of a value share."""
        key = (x.tensor, op.axis)
        if key not in self.pieces:
            shape = op.shape(x.shape)
            names = [f"{self._name(op, number)}/{piece}" for piece in range(op.parts)]
            self.pieces[key] = [self.writer.tensor(self.types.result, shape, name) for name in names]
            axis = self.writer.constant(np.asarray(op.axis, np.int32), f"{self.node.id}/axis")
            otherwise, int8, int16 = _VERSIONS[Builtin.SPLIT]
            version = {"int8": int8, "int16": int16}.get(self.types.maps, otherwise)
            options = tfl.SplitOptionsT(numSplits=op.parts)
            self.writer.operator(Builtin.SPLIT, version, [axis, x.tensor], self.pieces[key], options)
        return self.pieces[key][op.index]

    def _pad(self, begin: tuple[int, ...], end: tuple[int, ...], x: Value, out: Value, number: int) -> None:
        """PAD, which fills with the zero-point; more axes than it takes are joined where nothing is padded."""
        if len(begin) <= LARGEST_PAD_RANK:
            self._add(
                Builtin.PAD, [x.tensor, self._ints(list(zip(begin, end, strict=True)))], out.tensor, tfl.PadOptionsT()
            )
            return
        groups = joinable(begin, end)
        like = self.types.source
        flat, padded = (joined(value.shape, groups) for value in (x, out))
        name = f"{self.node.id}/pad{number}"
        before, after = (
            self.writer.tensor(like, flat, name + "/flat"),
            self.writer.tensor(like, padded, name + "/padded"),
        )
        counts = [(sum(begin[axis] for axis in group), sum(end[axis] for axis in group)) for group in groups]
        self._reshape(x.tensor, Value(before, flat))
        self._add(Builtin.PAD, [before, self._ints(counts)], after, tfl.PadOptionsT())
        self._reshape(after, out)

    def _conv(self, op: Conv, x: Value, out: Value, number: int, activation: int) -> None:
        """CONV_2D; SAME where TFLite's rule gives these pads, else PAD and VALID."""
        padding = _padding(op)
        if padding is None:
            begin, end = (0, *op.pad_begin, 0), (0, *op.pad_end, 0)
            padded = Pad(begin, end).shape(x.shape)
            inner = Value(self.writer.tensor(self.types.source, padded, f"{self.node.id}/pad{number}"), padded)
            self._pad(begin, end, x, inner, number)
            x, padding = inner, tfl.Padding.VALID
        rows, columns = op.dilations
        options = tfl.Conv2DOptionsT(
            padding=padding,
            strideW=1,
            strideH=1,
            fusedActivationFunction=activation,
            dilationHFactor=rows,
            dilationWFactor=columns,
            quantizedBiasType=self.types.bias_type,
        )
        operands = self.filters.operands(op, number)
        self._add(Builtin.CONV_2D, [x.tensor, *operands], out.tensor, options, self._conv_version())

    def _conv_version(self) -> int:
        if self.types.is_hybrid:
            return _HYBRID_CONV
        return _INT32_BIAS_CONV if self.types.bias_type and self.types.maps == "int16" else 0

    def _native(self, x: Value, out: Value) -> None:
        """The original operators again, or with weights on trial the deconv and its crops."""
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
        sizes = self._computed_sizes(out.shape) if computed else self.borrow(shape)
        operands = [sizes, self.borrow(kernel), x.tensor, *(self.borrow(each) for each in bias if each >= 0)]
        self.writer.copied(graph.root, graph.operators[node.operator], operands, tensor)
        previous = node.output
        for number, operator in enumerate(followers):
            made = graph.outputs_of(operator)[0]
            name = f"{node.id}/native{number}"
            last = number + 1 == len(followers)
            target = out.tensor if last else self.writer.tensor(graph.tensors[made], graph.shape(made), name)
            inputs = [tensor if each == previous else self.borrow(each) for each in graph.inputs_of(operator)]
            self.writer.copied(graph.root, graph.operators[operator], inputs, target)
            tensor, previous = target, made

    def _computed_sizes(self, shape: Shape) -> int:
        """The output shape as an operator's result: runtimes take other kernels for it than for a constant."""
        sizes = self._ints(self._native_shape(shape))
        made = self.writer.tensor(tfl.TensorT(type=tfl.TensorType.INT32), (4,), f"{self.node.id}/computed")
        self._reshape(sizes, Value(made, (4,)))
        return made

    def _native_shape(self, shape: Shape) -> list[int]:
        """What TRANSPOSE_CONV itself gives: the output of the site with what the epilogue crops."""
        batch, rows, columns, channels = (1 if size is None else size for size in shape)
        (top, left), (bottom, right) = self.node.epilogue.begin, self.node.epilogue.end
        return [batch, rows + top + bottom, columns + left + right, channels]

    def _bare_native(self, x: Value, out: Value) -> None:
        """TRANSPOSE_CONV and the crops, without activation and epilogue."""
        node = self.node
        original = node.graph.operators[node.operator]
        options = copy.copy(original.builtinOptions)
        options.fusedActivationFunction, options.quantizedBiasType = 0, self.types.bias_type
        whole = tuple(self._native_shape(out.shape))
        begin, end = (0, *node.epilogue.begin, 0), (0, *node.epilogue.end, 0)
        cropped = any(begin) or any(end)
        target = self.writer.tensor(self.types.result, whole, f"{node.id}/native") if cropped else out.tensor
        kernel, *bias = self.filters.native()
        version = max(_BIASED_DECONV, node.graph.root.operatorCodes[original.opcodeIndex].version)
        self._add(Builtin.TRANSPOSE_CONV, [self._ints(whole), kernel, x.tensor, *bias], target, options, version)
        if cropped:
            self._slice(Slice(begin, end), Value(target, whole), out)


def _padding(op: Conv) -> int | None:
    """SAME or VALID where one of them means the convolution's pads, else None."""
    pads = list(zip(op.pad_begin, op.pad_end, strict=True))
    if not any(map(any, pads)):
        return int(tfl.Padding.VALID)
    totals = [(size - 1) * dilation for size, dilation in zip(op.kernel, op.dilations, strict=True)]
    same = [(total // 2, total - total // 2) for total in totals]
    return int(tfl.Padding.SAME) if pads == same else None
