"""Writing what stands between a map and the program that takes the place of a stretched convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitdeconv.deconv.ops import Shape, Slice, Transpose, plus
from splitdeconv.formats.tflite.elementwise import ElementWise
from splitdeconv.formats.tflite.emit import Emitter, Value
from splitdeconv.formats.tflite.movement import is_number
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.skips import TensorPart, stage_of
from splitdeconv.formats.tflite.stretched import StretchedTensor


def write_front(emitter: Emitter) -> int:
    """The tensor that the program reads, in the model itself.

    Before: source ─ stretching ─ element-wise operators ─ CONV_2D.
    After: source ─ [RESHAPE] ─ [TRANSPOSE] ─ element-wise operators on the small map ─ [MIRROR_PAD, STRIDED_SLICE] ─
    program.
    """
    node = emitter.node
    if node.stretched is None:
        return node.source
    stretched, graph = node.stretched, node.graph
    like, value = graph.tensors[node.source], Value(node.source, stretched.shape)
    if len(graph.shape(node.source)) < len(stretched.shape):
        value = Value(emitter.writer.tensor(like, stretched.shape, f"{node.id}/map"), stretched.shape)
        emitter.reshape(node.source, value)
    value = _transposed(emitter, value, _order(stretched), like)
    value = Value(write_stages(emitter, stretched.stages, value.tensor, value.shape), value.shape)
    return _write_borders(emitter, stretched, value).tensor


def _order(stretched: StretchedTensor) -> tuple[int, ...]:
    """The source's axes in the order of the convolution's input, channels last."""
    batch, channels, *spatial = stretched.perm
    return (batch, *spatial, channels)


def _transposed(emitter: Emitter, value: Value, order: tuple[int, ...], like: object) -> Value:
    if order == tuple(range(len(order))):
        return value
    shape = Transpose(order).shape(value.shape)
    result = Value(emitter.writer.tensor(like, shape, f"{emitter.node.id}/transposed"), shape)
    emitter.add(Builtin.TRANSPOSE, [value.tensor, emitter.ints(order)], result.tensor, tfl.TransposeOptionsT())
    return result


def write_stages(emitter: Emitter, stages: Sequence[ElementWise], tensor: int, shape: Shape) -> int:
    """Element-wise operators, with their constants along the last axis."""
    graph, writer = emitter.node.graph, emitter.writer
    for number, stage in enumerate(stages):
        operands = [tensor]
        if stage.constant is not None and stage.values is not None:
            found = graph.tensors[stage.constant]
            name = f"{emitter.node.id}/constant{number}"
            constant = writer.constant(stage.values.reshape(-1), name, found.quantization)
            operands.insert(1 - stage.place, constant)
        result = writer.tensor(graph.tensors[stage.result], shape, f"{emitter.node.id}/stage{number}")
        writer.copied(graph.root, graph.operators[stage.operator], operands, [result])
        tensor = result
    return tensor


def _write_borders(emitter: Emitter, stretched: StretchedTensor, value: Value) -> Value:
    """Copies of the border pixels, one ring at a time, and crops."""
    like = emitter.node.graph.tensors[emitter.node.operand]
    for ring in range(max(0, *(count for pair in stretched.borders for count in pair))):
        counts = [(0, 0), *((int(begin > ring), int(end > ring)) for begin, end in stretched.borders), (0, 0)]
        shape = tuple(plus(size, sum(pair)) for size, pair in zip(value.shape, counts, strict=True))
        grown = Value(emitter.writer.tensor(like, shape, f"{emitter.node.id}/border{ring}"), shape)
        options = tfl.MirrorPadOptionsT(mode=tfl.MirrorPadMode.SYMMETRIC)
        emitter.add(Builtin.MIRROR_PAD, [value.tensor, emitter.ints(counts)], grown.tensor, options)
        value = grown
    cuts = [[0, *(max(0, -pair[end]) for pair in stretched.borders), 0] for end in (0, 1)]
    if not any(map(any, cuts)):
        return value
    cut = Slice(tuple(cuts[0]), tuple(cuts[1]))
    shape = cut.shape(value.shape)
    result = Value(emitter.writer.tensor(like, shape, f"{emitter.node.id}/cut"), shape)
    emitter.slice(cut, value, result)
    return result


def write_beside(emitter: Emitter) -> list[int]:
    """The map that the program reads beside the stretched one, in the model itself; nothing where there is none.

    Before: CONCATENATION of the stretched map and others ─ [element-wise, PAD, MIRROR_PAD] ─ CONV_2D.
    After: [CONCATENATION of the others] ─ [element-wise, pads unless the convolution takes them in] ─ program.
    """
    node = emitter.node
    stretched = node.stretched
    if stretched is None or stretched.part is None:
        return []
    part, graph, writer = stretched.part, node.graph, emitter.writer
    like, sizes = graph.tensors[part.value], graph.shape(part.value)[:-1]
    shape: Shape = (*sizes, part.total - part.count)
    tensor = part.beside[0]
    if len(part.beside) > 1:
        tensor = writer.tensor(like, shape, f"{node.id}/beside")
        options = tfl.ConcatenationOptionsT(axis=len(sizes))
        emitter.add(Builtin.CONCATENATION, list(part.beside), tensor, options)
    for operator in part.behind:
        stage = stage_of(part, graph, operator, own=False)
        if stage is not None:
            tensor = write_stages(emitter, [stage], tensor, shape)
        elif stretched.zeros is None:
            shape = (*graph.shape(graph.outputs_of(operator)[0])[:-1], shape[-1])
            padded = writer.tensor(like, shape, f"{node.id}/beside_padded")
            writer.copied(graph.root, graph.operators[operator], [tensor, *graph.inputs_of(operator)[1:]], [padded])
            tensor = padded
    return [tensor]


def write_beside_stages(emitter: Emitter, stretched: StretchedTensor, tensor: int, shape: Shape) -> int:
    """The element-wise operators behind a CONCATENATION on the map beside the stretched one, in a model of its own."""
    part = stretched.part
    found = [stage_of(part, emitter.node.graph, each, own=False) for each in part.behind] if part else []
    return write_stages(emitter, [stage for stage in found if stage is not None], tensor, shape)


class OperatorCopies:
    """The model's own operators between a map and a convolution, copied once each.

    Args:
        emitter: of a model of its own.
        stretched: what is copied.
        x: the small map in the convolution's layout.
        beside: the map beside the stretched one, or nothing.
    """

    def __init__(self, emitter: Emitter, stretched: StretchedTensor, x: int, beside: Sequence[int] = ()) -> None:
        self._emitter, self._stretched, self._beside = emitter, stretched, beside
        graph = emitter.node.graph
        like, order = graph.tensors[stretched.source], _order(stretched)
        small = Transpose(order).shape(stretched.shape)
        value = _transposed(emitter, Value(x, small), tuple(int(axis) for axis in np.argsort(order)), like)
        if len(graph.shape(stretched.source)) < len(stretched.shape):
            own = Value(
                emitter.writer.tensor(like, graph.shape(stretched.source), "map"), graph.shape(stretched.source)
            )
            emitter.reshape(value.tensor, own)
            value = own
        self._known = {stretched.source: value.tensor}

    def of(self, tensor: int) -> int | None:
        """The copy of a tensor on the way; None where what makes it cannot be copied."""
        if tensor in self._known or tensor < 0:
            return self._known.get(tensor, tensor)
        node, writer = self._emitter.node, self._emitter.writer
        graph, operator = node.graph, node.graph.producer(tensor)
        if graph.content(tensor) is not None:
            self._known[tensor] = self._emitter.borrow(tensor)
            return self._known[tensor]
        if self._stretched.part is not None and operator == self._stretched.part.concat:
            return self._concatenated(self._stretched.part)
        copyable = operator in self._stretched.nodes or is_number(graph, tensor)
        if operator is None or not copyable or graph.name(operator) == "STABLEHLO_SCATTER":
            return None  # whose computation is a subgraph of its own
        inputs = [self.of(each) for each in graph.inputs_of(operator)]
        if None in inputs:
            return None
        made = graph.outputs_of(operator)
        outputs = [writer.tensor(graph.tensors[each], graph.shape(each), f"copy{each}") for each in made]
        known = [each for each in inputs if each is not None]
        writer.copied(graph.root, graph.operators[operator], known, outputs)
        self._known |= dict(zip(made, outputs, strict=True))
        return self._known[tensor]

    def _concatenated(self, part: TensorPart) -> int | None:
        """The stretched map among those beside it, which are one map here."""
        emitter, (together,), own = (
            self._emitter,
            self._emitter.node.graph.outputs_of(part.concat),
            self.of(part.value),
        )
        if own is None:
            return None
        graph, writer, (beside,) = emitter.node.graph, emitter.writer, self._beside
        like, sizes = graph.tensors[part.value], graph.shape(part.value)[:-1]
        first, rest = part.channels[0], part.total - part.channels[1]
        tensors = [beside, own] if first else [own, beside]
        if first and rest:
            whole, none = Value(beside, (*sizes, first + rest)), (0,) * (len(sizes) + 1)
            ends = [Value(writer.tensor(like, (*sizes, count), "beside"), (*sizes, count)) for count in (first, rest)]
            emitter.slice(Slice(none, (*none[1:], rest)), whole, ends[0])
            emitter.slice(Slice((*none[1:], first), none), whole, ends[1])
            tensors = [ends[0].tensor, own, ends[1].tensor]
        made = writer.tensor(graph.tensors[together], graph.shape(together), "together")
        writer.copied(graph.root, graph.operators[part.concat], tensors, [made])
        self._known[together] = made
        return made
