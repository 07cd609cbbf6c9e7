"""Writing what stands between a map and the program that takes the place of a stretched convolution."""

from __future__ import annotations

import numpy as np

from splitdeconv.deconv.ops import Shape, Slice, Transpose, plus
from splitdeconv.formats.tflite.emit import Emitter, Value
from splitdeconv.formats.tflite.movement import is_number
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.stretched import StretchedTensor


def write_front(emitter: Emitter) -> int:
    """The tensor that the program reads, in the model itself.

    Before: source ─ stretching ─ element-wise operators ─ CONV_2D.
    After: source ─ [RESHAPE] ─ [TRANSPOSE] ─ element-wise operators on the small map ─ [MIRROR_PAD, STRIDED_SLICE] ─
    program.
    """
    node = emitter.node
    if node.written is None:
        return node.source
    stretched, graph = node.written.stretched, node.graph
    like, value = graph.tensors[node.source], Value(node.source, stretched.shape)
    if len(graph.shape(node.source)) < len(stretched.shape):
        value = Value(emitter.writer.tensor(like, stretched.shape, f"{node.id}/map"), stretched.shape)
        emitter.reshape(node.source, value)
    value = _transposed(emitter, value, stretched.order, like)
    value = Value(write_stages(emitter, stretched, value.tensor, value.shape), value.shape)
    return _write_borders(emitter, stretched, value).tensor


def _transposed(emitter: Emitter, value: Value, order: tuple[int, ...], like: object) -> Value:
    if order == tuple(range(len(order))):
        return value
    shape = Transpose(order).shape(value.shape)
    result = Value(emitter.writer.tensor(like, shape, f"{emitter.node.id}/transposed"), shape)
    emitter.add(Builtin.TRANSPOSE, [value.tensor, emitter.ints(order)], result.tensor, tfl.TransposeOptionsT())
    return result


def write_stages(emitter: Emitter, stretched: StretchedTensor, tensor: int, shape: Shape) -> int:
    """Element-wise operators, with their constants along the last axis."""
    graph, writer = emitter.node.graph, emitter.writer
    for number, stage in enumerate(stretched.stages):
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


class OperatorCopies:
    """The model's own operators between a map and a convolution, copied once each.

    Args:
        emitter: of a model of its own.
        stretched: what is copied.
        x: the small map in the convolution's layout.
    """

    def __init__(self, emitter: Emitter, stretched: StretchedTensor, x: int) -> None:
        self._emitter, self._stretched = emitter, stretched
        graph = emitter.node.graph
        like, order = graph.tensors[stretched.source], stretched.order
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
        copyable = operator in self._stretched.operators or is_number(graph, tensor)
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
