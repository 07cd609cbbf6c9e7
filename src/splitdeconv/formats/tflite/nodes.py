"""The deconvs of a model: its transposed convolutions, as they state themselves, and convolutions of stretched maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.formats.tflite.convolutions import read_stretched, stretched_at
from splitdeconv.formats.tflite.epilogue import find_epilogue
from splitdeconv.formats.tflite.geometry import same_axis
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.node import Node, WrittenConv
from splitdeconv.formats.tflite.operands import Constant, LeftAlone, arithmetic, constant_operand
from splitdeconv.formats.tflite.schema import ACTIVATIONS, tfl
from splitdeconv.formats.tflite.shapes import shape_value
from splitdeconv.results.plan import Skipped


def find_nodes(root: Any, numerics: str) -> list[Node | Skipped]:
    """All deconvs of all subgraphs, in order; convolutions of stretched maps are looked for first."""
    named = list(named_operators(root))
    taken = {name for name, _, _ in named}
    found: list[Node | Skipped] = []
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        names = {operator: name for name, holder, operator in named if holder.number == number}
        found += _find_in(graph, names, taken, numerics)
    return found


def _find_in(graph: Graph, names: dict[int, str], taken: set[str], numerics: str) -> list[Node | Skipped]:
    """The deconvs of one subgraph; ``names`` are those of its transposed convolutions."""
    every = range(len(graph.operators))
    stretched = {operator: each for operator in every if (each := stretched_at(graph, operator)) is not None}
    replaced = {operator for operator, each in stretched.items() if isinstance(each, WrittenConv)}
    inner = {n for each in stretched.values() if isinstance(each, WrittenConv) for n in each.stretched.operators}
    found: list[Node | Skipped] = []
    for operator in every:
        each = stretched.get(operator)
        half = operator in inner and not _read_by_others(graph, operator, inner | replaced)
        if each is None:
            found += [] if half or operator not in names else [_Reader(graph, operator, names[operator]).node(numerics)]
            continue
        name = names.get(operator) or _unique(_name(graph, operator), taken)
        taken.add(name)
        if isinstance(each, WrittenConv):
            kept = (n for n in each.stretched.operators if _read_by_others(graph, n, inner | replaced))
            found.append(read_stretched(name, graph, operator, each.keeping(next(kept, None), graph), numerics))
        else:
            found.append(Skipped(name, graph.describe(), each))
    return found


def _read_by_others(graph: Graph, operator: int, readers: set[int]) -> bool:
    """Whether others than ``readers`` see what an operator makes."""
    made = graph.outputs_of(operator)
    return any(tensor in graph.outputs or not readers.issuperset(graph.readers(tensor)) for tensor in made)


def named_operators(root: Any) -> Iterator[tuple[str, Graph, int]]:
    """Every transposed convolution with its site's name, which is unique: name, subgraph, operator."""
    taken: set[str] = set()
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        for operator in range(len(graph.operators)):
            if _is_deconv(graph.name(operator)):
                name = _unique(_name(graph, operator), taken)
                taken.add(name)
                yield name, graph, operator


def nodes_of(root: Any, numerics: str) -> Iterator[Node]:
    """The deconvs that can be rewritten."""
    return (node for node in find_nodes(root, numerics) if isinstance(node, Node))


def _is_deconv(name: str) -> bool:
    """By the operator's name; custom operators choose their own."""
    low = name.lower()
    return ("transpose" in low and "conv" in low) or "deconv" in low


def _name(graph: Graph, operator: int) -> str:
    """First of the names that the converter joined for the output."""
    outputs = graph.outputs_of(operator)
    name = text(graph.tensors[outputs[0]].name).split(";")[0] if outputs else ""
    return name or f"subgraph{graph.number}/operator{operator}"


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


class _Reader:
    """Reads one operator; raises ``LeftAlone`` with the reason where it cannot be rewritten."""

    def __init__(self, graph: Graph, operator: int, name: str) -> None:
        self.graph, self.operator, self.name = graph, operator, name

    def node(self, numerics: str) -> Node | Skipped:
        try:
            return self._node(numerics)
        except LeftAlone as reason:
            return Skipped(self.name, self.graph.describe(), str(reason))

    def _node(self, numerics: str) -> Node:
        kind = self.graph.name(self.operator)
        if kind == "CONV_3D_TRANSPOSE":
            raise LeftAlone("CONV_3D_TRANSPOSE is not rewritten: only deconvs of two spatial axes are")
        if kind != "TRANSPOSE_CONV":
            raise LeftAlone(
                f"custom operator '{kind}': its meaning is not part of the TFLite format, so it is left alone"
            )
        operands = self.graph.inputs_of(self.operator)
        if len(operands) < 3 or min(operands[:3]) < 0 or not self.graph.outputs_of(self.operator):
            raise LeftAlone(f"TRANSPOSE_CONV has {len(operands)} inputs, wanted output_shape, weights, input")
        shape, kernel_operand, source = operands[:3]
        output = self.graph.outputs_of(self.operator)[0]
        kernel = constant_operand(self.graph, kernel_operand, "weights")
        bias = constant_operand(self.graph, operands[3], "bias") if len(operands) > 3 and operands[3] >= 0 else None
        deconv, notes = self._deconv(shape, kernel, source, output, bias)
        epilogue = find_epilogue(self.graph, self.operator, numerics)
        deconv = epilogue.applied(deconv)
        return Node(self.name, self.graph, self.operator, deconv, source, source, output, kernel, bias, epilogue, notes)

    def _deconv(
        self, shape: int, kernel: Constant, source: int, output: int, bias: Constant | None
    ) -> tuple[Deconv, tuple[str, ...]]:
        options = self.graph.operators[self.operator].builtinOptions
        if options is None or not isinstance(options, tfl.TransposeConvOptionsT):
            raise LeftAlone("TRANSPOSE_CONV without its options, wanted strides and padding")
        if options.fusedActivationFunction not in ACTIVATIONS:
            raise LeftAlone(f"fused activation {options.fusedActivationFunction} is none that CONV_2D has")
        batch, *in_sizes, in_channels = self._four(self.graph.shape(source), "input")
        out_channels, *kernel_sizes, kernel_in = self._four(self.graph.shape(kernel.tensor), "weights")
        if in_channels != kernel_in:
            raise LeftAlone(f"weights have {kernel_in} input channels, the input has {in_channels} (NHWC)")
        assert out_channels is not None, "constants have known shapes"
        assert in_channels is not None, "constants have known shapes"
        out_sizes, notes = self._out_sizes(shape, output, batch, out_channels)
        axes = tuple(
            self._axis(in_size, out_size, kernel_size, stride, options.padding == tfl.Padding.SAME)
            for in_size, out_size, kernel_size, stride in zip(
                in_sizes, out_sizes, kernel_sizes, (options.strideH, options.strideW), strict=True
            )
        )
        dtype, quant = arithmetic(self.graph, kernel, source, output)
        return Deconv(axes, in_channels, out_channels, 1, batch, dtype, bias is not None, quant), notes

    def _four(self, shape: tuple[int | None, ...], what: str) -> tuple[int | None, ...]:
        if len(shape) != 4:
            raise LeftAlone(f"{what} has {len(shape)} axes, wanted 4")
        return shape

    def _out_sizes(
        self, shape: int, output: int, batch: int | None, out_channels: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """Height and width; from the constant or computed output shape, or from the recorded one."""
        value = shape_value(self.graph, shape)
        notes: tuple[str, ...] = ()
        recorded = self.graph.shape(output)
        if value is None or len(value) != 4:
            value = list(recorded)
            notes = (
                f"its output shape is {'computed' if self.graph.producer(shape) is not None else 'an input'} of "
                f"the model; the recorded shape {value} is taken for good",
            )
        if len(value) != 4 or None in value[1:3]:
            raise LeftAlone("its output shape is computed from sizes that the model leaves open")
        if value[0] is not None and batch is not None and value[0] != batch:
            raise LeftAlone(f"output shape {value} has another batch than the input ({batch})")
        if value[3] not in (None, out_channels):
            raise LeftAlone(f"output shape {value} has another number of channels than {out_channels}")
        return [size for size in value[1:3] if size is not None], notes

    def _axis(self, in_size: int | None, out_size: int, kernel: int | None, stride: int, same: bool) -> Axis:
        if in_size is None:
            raise LeftAlone("its input's height or width is open, and its output shape is fixed")
        assert kernel is not None, "constants have known shapes"
        if stride < 1:
            raise LeftAlone(f"stride is {stride}, wanted at least 1")
        forward = -(-out_size // stride) if same else (out_size - kernel + stride) // stride
        if forward != in_size:
            raise LeftAlone(f"its output size {out_size} does not belong to input size {in_size}, which LiteRT refuses")
        try:
            return same_axis(in_size, out_size, kernel, stride, same)
        except ValueError as error:
            raise LeftAlone(str(error)) from None
