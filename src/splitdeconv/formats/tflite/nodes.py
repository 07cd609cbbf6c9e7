"""The deconvs of a model: its transposed convolutions, as they state themselves, and convolutions of stretched maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.formats.stretched import Stretched
from splitdeconv.formats.tflite.convolutions import read_stretched, stretched_at
from splitdeconv.formats.tflite.epilogue import find_epilogue
from splitdeconv.formats.tflite.geometry import FILTER_AXES
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.operands import Constant, LeftAlone, arithmetic, constant_operand
from splitdeconv.formats.tflite.shapes import Size, shape_value, size_at
from splitdeconv.formats.tflite.transposed import Transposed, axis_of, is_deconv, mediapipe_axis, read_transposed
from splitdeconv.formats.tflite.way_back import kept_names
from splitdeconv.results.plan import Skipped

UNKNOWN = "its output shape is computed from sizes that the model leaves open, otherwise than from its input's"


def find_nodes(root: Any, numerics: str) -> list[Node | Skipped]:
    """All deconvs of all subgraphs, in order; convolutions of stretched maps are looked for first."""
    named, renamed = list(named_operators(root)), kept_names(root)
    taken = {name for name, _, _ in named}
    found: list[Node | Skipped] = []
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        names = {operator: name for name, holder, operator in named if holder.number == number}
        found += _find_in(graph, names, taken, numerics, renamed)
    return found


def _find_in(
    graph: Graph, names: dict[int, str], taken: set[str], numerics: str, renamed: Mapping[tuple[int, int], str]
) -> list[Node | Skipped]:
    """The deconvs of one subgraph; ``names`` are those of its transposed convolutions."""
    every = range(len(graph.operators))
    stretched = {operator: each for operator in every if (each := stretched_at(graph, operator)) is not None}
    replaced = {operator for operator, each in stretched.items() if isinstance(each, Stretched)}
    inner = {n for each in stretched.values() if isinstance(each, Stretched) for n in each.nodes}
    found: list[Node | Skipped] = []
    for operator in every:
        each = stretched.get(operator)
        half = operator in inner and not _read_by_others(graph, operator, inner | replaced)
        if each is None:
            found += [] if half or operator not in names else [_Reader(graph, operator, names[operator]).node(numerics)]
            continue
        name = names.get(operator) or _unique(operator_name(graph, operator, renamed), taken)
        taken.add(name)
        if isinstance(each, Stretched):
            kept = (graph.outputs_of(n)[0] for n in each.nodes if _read_by_others(graph, n, inner | replaced))
            each = replace(each, kept=next(kept, None))
            found.append(read_stretched(name, graph, operator, each, numerics))
        else:
            found.append(Skipped(name, graph.describe(), each))
    return found


def _read_by_others(graph: Graph, operator: int, readers: set[int]) -> bool:
    """Whether others than ``readers`` see what an operator makes."""
    made = graph.outputs_of(operator)
    return any(tensor in graph.outputs or not readers.issuperset(graph.readers(tensor)) for tensor in made)


def named_operators(root: Any) -> Iterator[tuple[str, Graph, int]]:
    """Every transposed convolution with its site's name, which is unique: name, subgraph, operator."""
    taken, renamed = set[str](), kept_names(root)
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        for operator in range(len(graph.operators)):
            if is_deconv(graph.name(operator)):
                name = _unique(operator_name(graph, operator, renamed), taken)
                taken.add(name)
                yield name, graph, operator


def nodes_of(root: Any, numerics: str) -> Iterator[Node]:
    """The deconvs that can be rewritten."""
    return (node for node in find_nodes(root, numerics) if isinstance(node, Node))


def operator_name(graph: Graph, operator: int, renamed: Mapping[tuple[int, int], str]) -> str:
    """The name before it got another output, or the first of those that the converter joined for its output."""
    outputs = graph.outputs_of(operator)
    if outputs and (graph.number, outputs[0]) in renamed:
        return renamed[graph.number, outputs[0]]
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
        stated = read_transposed(self.graph, self.operator)
        output = self.graph.outputs_of(self.operator)[0]
        kernel = constant_operand(self.graph, stated.kernel, "weights")
        bias = None if stated.bias is None else constant_operand(self.graph, stated.bias, "bias")
        deconv, notes = self._deconv(stated, kernel, output, bias)
        epilogue = find_epilogue(self.graph, self.operator, numerics, len(deconv.axes))
        deconv = epilogue.applied(deconv)
        source = stated.source
        return Node(self.name, self.graph, self.operator, deconv, source, source, output, kernel, bias, epilogue, notes)

    def _deconv(
        self, stated: Transposed, kernel: Constant, output: int, bias: Constant | None
    ) -> tuple[Deconv, tuple[str, ...]]:
        rank = len(stated.strides)
        batch, *in_sizes, in_channels = self._sizes(self.graph.shape(stated.source), rank, "input")
        stored = self._sizes(self.graph.shape(kernel.tensor), rank, "weights")
        order = FILTER_AXES[self.graph.name(self.operator)]
        kernel_in, out_channels, *kernel_sizes = (stored[axis] or 0 for axis in order)
        if in_channels != kernel_in:
            raise LeftAlone(f"weights have {kernel_in} input channels, the input has {in_channels} (channels last)")
        axes, notes = self._axes(stated, output, batch, in_sizes, kernel_sizes, out_channels)
        dtype, quant = arithmetic(self.graph, kernel, stated.source, output)
        has_bias, custom = bias is not None, stated.is_custom
        return Deconv(axes, kernel_in, out_channels, 1, batch, dtype, has_bias, quant, custom=custom), notes

    def _sizes(self, shape: Shape, rank: int, what: str) -> Shape:
        if len(shape) != rank + 2:
            raise LeftAlone(f"{what} has {len(shape)} axes, wanted {rank + 2}")
        return shape

    def _axes(
        self,
        stated: Transposed,
        output: int,
        batch: int | None,
        in_sizes: Sequence[int | None],
        kernel_sizes: Sequence[int],
        out_channels: int,
    ) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
        """The spatial axes, and what the user should know of where their sizes come from."""
        numbers = list(zip(in_sizes, kernel_sizes, stated.strides, strict=True))
        if stated.sizes is None:
            if None in in_sizes:
                raise LeftAlone("its pads depend on its input's height and width, which the model leaves open")
            return tuple(mediapipe_axis(size or 0, kernel, stride, stated.same) for size, kernel, stride in numbers), ()
        out_sizes, notes = self._out_sizes(stated, stated.sizes, output, batch, out_channels)
        axes = [
            self._axis(stated, number, out, *each)
            for number, (out, each) in enumerate(zip(out_sizes, numbers, strict=True))
        ]
        return tuple(axes), notes

    def _out_sizes(
        self, stated: Transposed, sizes: int, output: int, batch: int | None, out_channels: int
    ) -> tuple[list[Size], tuple[str, ...]]:
        """The spatial sizes; from the constant or computed output shape, or from the recorded one."""
        value = shape_value(self.graph, sizes)
        notes: tuple[str, ...] = ()
        rank, recorded = len(stated.strides) + 2, self.graph.shape(output)
        if value is None or len(value) != rank:
            value = list(recorded)
            notes = (
                f"its output shape is {'computed' if self.graph.producer(sizes) is not None else 'an input'} of "
                f"the model; the recorded shape {value} is taken for good",
            )
        if len(value) != rank or None in value[1:-1]:
            raise LeftAlone(UNKNOWN)
        if isinstance(value[0], int) and batch is not None and value[0] != batch:
            raise LeftAlone(f"output shape {value} has another batch than the input ({batch})")
        if isinstance(value[-1], int) and value[-1] != out_channels:
            raise LeftAlone(f"output shape {value} has another number of channels than {out_channels}")
        return value[1:-1], notes

    def _axis(self, stated: Transposed, number: int, out: Size, in_size: int | None, kernel: int, stride: int) -> Axis:
        """One axis; an open one is that of any input size that is large enough, since its output grows with it."""
        if in_size is not None:
            if not isinstance(out, int):
                raise LeftAlone(UNKNOWN)
            return axis_of(in_size, out, kernel, stride, stated.same)
        if isinstance(out, int):
            raise LeftAlone("its input's height or width is open, and its output shape is fixed")
        if out is None or out.of != size_at(self.graph, stated.source, number + 1) or out.factor != stride:
            raise LeftAlone(UNKNOWN)
        example = kernel + stride
        return axis_of(example, out.at(example), kernel, stride, stated.same).with_in_size(None)
