"""Finding convolutions of stretched maps: what the nodes between a map and a convolution do with its elements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.ops import Shape
from splitdeconv.formats.index_maps import IndexMap, in_channel_order, read, read_folded
from splitdeconv.formats.onnx import upsampling
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import Stage
from splitdeconv.formats.onnx.graph import Place, is_standard
from splitdeconv.formats.onnx.movement import STRETCHING, Movement, map_inputs
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.skips import ConcatPart, parts_at, zeros_behind
from splitdeconv.formats.stretched import Interpolated, Search, Stretched, way_back
from splitdeconv.formats.written_convs import INTERPOLATED, UNPROVEN, ConvGeometry, not_nearest

_LONGEST = 200  # nodes between the map and the convolution; what exporters write has at most 70
_ELEMENTS = 2**20  # of a map whose numbers are followed; of larger ones fewer channels, if that is possible
_MOST_BRANCHES = 16  # that are followed at once
_MOST_ELEMENTS = 2**24
_OPEN = (
    (1, 3, 5, 6, 7),
    (2, 2, 8, 5, 6),
    (1, 2, 7, 11, 9),
)  # sizes to try where they are open, batch and channels first
_WIDTHS = {ir.DataType.FLOAT16: 1, ir.DataType.BFLOAT16: 1, ir.DataType.FLOAT: 2, ir.DataType.DOUBLE: 3}

StretchedValue = Stretched[ir.Node, ir.Value, Stage]


class ValueSearch(Search[ir.Node, ir.Value, Stage]):
    """Looks back from one convolution of a model.

    Args:
        place: the convolution.
        geometry: what it does.
        channels: that it reads.
        shapes: of the model's values.
    """

    def __init__(self, place: Place, geometry: ConvGeometry, channels: int, shapes: Shapes) -> None:
        super().__init__(geometry, channels)
        self._place, self._shapes, self._rank = place, shapes, len(geometry.kernel) + 2

    def sources(self, part: ConcatPart | None) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...]]]:
        place = self._place

        def latest(values: Collection[ir.Value]) -> ir.Node | None:
            node = _latest(values)
            return node if node is not None and node.graph is place.graph else None

        def maps(node: ir.Node) -> Sequence[ir.Value]:
            return (part.value,) if part is not None and node is part.concat else map_inputs(node, place.opset)

        x = place.node.inputs[0]
        return way_back([] if x is None else [x], latest, maps, lambda n: n.outputs, _LONGEST)

    def stretches(self, nodes: Sequence[ir.Node]) -> bool:
        return any(node.op_type in STRETCHING for node in nodes)

    def parts(self) -> tuple[list[ConcatPart], str | None]:
        return parts_at(self._place, self.channels, self._rank, self._shapes)

    def zeros_behind(self, part: ConcatPart) -> tuple[tuple[int, int], ...] | None:
        return zeros_behind(part, self._place.opset, self._rank)

    def trials(
        self, source: ir.Value, nodes: Sequence[ir.Node], part: ConcatPart | None
    ) -> Iterator[tuple[Shape, list[tuple[int, ...]]]]:
        known = self._shapes.by_name.get(source.name or "")
        if known is not None and len(known) == self._rank and _same_type(self._shapes.type_of(source), nodes):
            yield from ((known, sizes) for sizes in _sizes_to_try(known))

    def run(
        self, source: ir.Value, nodes: Sequence[ir.Node], shape: tuple[int, ...], part: ConcatPart | None
    ) -> tuple[IndexMap, dict[ir.Node, Stage]] | None:
        x, channels = self._place.node.inputs[0], self.channels if part is None else part.count
        beside = _sizes_beside(source, shape, self._shapes)
        movement = Movement(source, shape, self._place.opset, beside, channels, part)
        numbers = None if x is None else movement.of(x)
        index = None if numbers is None else read(numbers, shape) or read_folded(numbers, shape)
        if index is None:
            return None
        for stage in movement.stages.values():
            by_channel = any(each and each.channel_axis is not None for each in stage.parameters)
            found = movement.of(stage.node.outputs[0]) if by_channel else None
            if by_channel and (
                found is None or found.ndim != self._rank or not in_channel_order(found, 1, shape, index)
            ):
                return None
        return index, movement.stages

    def interpolated(self, part: ConcatPart | None) -> Interpolated[ir.Node, ir.Value] | str | None:
        value = self._place.node.inputs[0] if part is None else part.value
        node = None if value is None else value.producer()
        if value is None or node is None or node.graph is not self._place.graph or not is_standard(node, "Resize"):
            return None
        source, *others = node.inputs
        if source is None:
            return None
        known = [None, *(constant(each, self._place.opset) for each in others)]
        shape, out_shape = (self._shapes.of(each, self._rank) for each in (source, value))
        how = upsampling.interpolation(node, known, shape, out_shape, self._place.opset)
        if not isinstance(how, Interpolation):
            return how
        return Interpolated(source, shape, tuple(range(self._rank)), how, node)

    def why_not(self, chain: Sequence[tuple[ir.Value, tuple[ir.Node, ...]]], part: ConcatPart | None) -> str | None:
        nodes = chain[-1][1] if chain else ()
        upsamplings = [node for node in nodes if node.op_type in ("Resize", "Upsample")]
        for node in upsamplings:
            mode = node.attributes.get("mode")
            if mode is not None and mode.as_string() != "nearest":
                between = [each.op_type for each in nodes[: nodes.index(node)][::-1]]
                if self.geometry.is_pointwise and between[:1] == ["QuantizeLinear"]:
                    return INTERPOLATED
                return not_nearest(mode.as_string(), self.geometry, between)
        return UNPROVEN if upsamplings else None


def _latest(values: Iterable[ir.Value]) -> ir.Node | None:
    """The node that makes the latest of ``values``; None where all of them come from outside of the graph."""
    makers = list(dict.fromkeys(node for value in values if (node := value.producer()) is not None))
    if len(makers) > _MOST_BRANCHES:
        return None
    if len(makers) < 2:
        return makers[0] if makers else None
    behind = [node for node in makers if not any(other is not node and _reads(other, node) for other in makers)]
    return behind[0] if behind else None


def _reads(later: ir.Node, earlier: ir.Node) -> bool:
    """Whether ``later`` depends on ``earlier``."""
    known: set[ir.Node] = set()
    left = [later]
    while left and len(known) < _LONGEST:
        node = left.pop()
        if node is earlier:
            return True
        known.add(node)
        left.extend(each for value in node.inputs if value and (each := value.producer()) and each not in known)
    return False


def _sizes_to_try(known: Shape) -> list[list[tuple[int, ...]]]:
    """Sizes to try: those that are known, several where some are open; of large maps first few channels."""
    whole = []
    for drawn in _OPEN if None in known else _OPEN[:1]:
        whole.append(tuple(size or drawn[axis] for axis, size in enumerate(known)))
    if np.prod(whole[0]) <= _ELEMENTS:
        return [whole]
    few = [[(*sizes[:axis], 2, *sizes[axis + 1 :]) for sizes in whole] for axis in (1, len(known) - 1)]
    return [*few, whole] if np.prod(whole[0]) <= _MOST_ELEMENTS else few


def _sizes_beside(
    source: ir.Value, shape: tuple[int, ...], shapes: Shapes
) -> Callable[[ir.Value], tuple[int, ...] | None]:
    """Sizes of values that do not depend on ``source``: those that are known, and those that are called as its own."""
    called = dict(zip(shapes.symbols.get(source.name or "", ()), shape, strict=False))

    def shape_of(value: ir.Value) -> tuple[int, ...] | None:
        names = shapes.symbols.get(value.name or "")
        if names is None:
            return None
        found = [name if isinstance(name, int) else called.get(name) if name else None for name in names]
        return None if None in found else tuple(size for size in found if size is not None)

    return shape_of


def _same_type(type_of: ir.DataType | None, nodes: Sequence[ir.Node]) -> bool:
    """Whether Casts on the way only go to wider types and back."""
    to = [ir.DataType(node.attributes["to"].as_int()) for node in nodes if node.op_type == "Cast"]
    return not to or (type_of == to[0] and all(each == to[0] or _WIDTHS.get(each, 0) > _WIDTHS[to[0]] for each in to))
