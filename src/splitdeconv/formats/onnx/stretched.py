"""Finding convolutions of stretched maps: from a convolution back to the map whose pixels it reads several times.

Before: x ─ [Transpose] ─ anything that repeats pixels or puts zeros between them ─ [element-wise, Pad, Slice] ─ Conv.
The nodes are not recognised by their names but by where they move the elements of ``x``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.spec import Stretch
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import AxisMap, IndexMap, only_channels_differ, read, read_folded, without_borders
from splitdeconv.formats.onnx.epilogue import Stage
from splitdeconv.formats.onnx.graph import Place, is_quantiser, is_standard
from splitdeconv.formats.onnx.movement import STRETCHING, Movement, map_inputs
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.written_convs import ROUNDED_TWICE, UNPROVEN

_LONGEST = 200  # nodes between the map and the convolution; what exporters write has at most 70
_ELEMENTS = 2**20  # of a map whose numbers are followed; of larger ones fewer channels, if that is possible
_MOST_BRANCHES = 16  # that are followed at once
_MOST_ELEMENTS = 2**24
_OPEN = (
    (1, 3, 5, 6, 7),
    (2, 2, 8, 5, 6),
    (1, 2, 7, 11, 9),
)  # sizes to try where they are open, batch and channels first


@dataclass(frozen=True)
class Stretched:
    """What stands between a map and a convolution.

    Attributes:
        source: the map.
        perm: ``perm[n]`` is its axis that becomes axis ``n`` of the convolution's input.
        kind: how it is stretched.
        axes: of the spatial axes, without what ``borders`` says.
        borders: pixels of the small map to add at the begin and end of each axis, copies of its border pixel; negative
            where it is cropped.
        stages: element-wise nodes on the way, in order; they commute with the stretching.
        nodes: all nodes on the way.
        kept: a value on the way that stays because others read it too, or None.
        beside: maps that the convolution reads beside the stretched one, in their order.
        channels: where the stretched map's channels lie among all that the convolution reads: first, and behind last.
        folded: the source's channels, and those of them that the convolution reads as one item of its batch; or None.
    """

    source: ir.Value
    perm: tuple[int, ...]
    kind: Stretch
    axes: tuple[AxisMap, ...]
    borders: tuple[tuple[int, int], ...]
    stages: tuple[Stage, ...]
    nodes: tuple[ir.Node, ...]
    kept: ir.Value | None = None
    beside: tuple[ir.Value, ...] = ()
    channels: tuple[int, int] | None = None
    folded: tuple[int, int] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the small map is read as it is."""
        return not any(any(pair) for pair in self.borders)

    def sizes(self, shape: Shape) -> tuple[int | None, ...]:
        """Sizes of the small map that the convolution's deconv reads, batch and channels first."""
        found = [shape[axis] for axis in self.perm]
        if self.folded is not None:
            own, read = self.folded
            found[:2] = [None if found[0] is None else found[0] * own // read, read]
        for number, (begin, end) in enumerate(self.borders, start=2):
            size = found[number]
            found[number] = None if size is None else size + begin + end
        return tuple(found)


_WIDTHS = {ir.DataType.FLOAT16: 1, ir.DataType.BFLOAT16: 1, ir.DataType.FLOAT: 2, ir.DataType.DOUBLE: 3}


def find_stretched(
    place: Place, x: ir.Value, channels: int, rank: int, pads: Sequence[tuple[int, int]], shapes: Shapes
) -> Stretched | str | None:
    """The stretched map that a convolution reads, the reason why it cannot be taken for one, or None without one.

    Args:
        place: the convolution.
        x: what it reads, or a part of that.
        channels: that it reads.
        rank: number of axes of its input.
        pads: zeros that it puts around each spatial axis.
        shapes: of the model's values.
    """
    if place.in_function:
        return None
    chain = list(_sources(x, place))
    seen = {node.op_type for _, nodes in chain for node in nodes}
    if not seen & STRETCHING:
        return None
    found = [each for source, nodes in chain if (each := _reading(source, nodes, x, place, channels, rank, shapes))]
    stretched = [each for each in found if each.kind is not None]
    if not stretched:
        return _why_not(chain[-1][1]) if seen & {"Resize", "Upsample"} else None
    best = max(stretched, key=lambda each: (each.index.factor, each.in_order, -len(each.nodes)))
    plain = without_borders(best.index, pads)
    if isinstance(plain, str) or best.kind is None:
        return plain if isinstance(plain, str) else None
    made = Stretched(best.source, best.index.perm, best.kind, *plain, best.stages, best.nodes)
    return replace(made, folded=(best.channels, channels)) if best.index.folded else made


def find_part(
    place: Place, channels: int, rank: int, pads: Sequence[tuple[int, int]], shapes: Shapes
) -> Stretched | str | None:
    """As :func:`find_stretched`, of one part of a concatenation of channels: a skip connection's other part.

    Where the concatenation is quantised anew, the reason why it stays.

    Before: Concat of a stretched map and others, Conv.
    After: a convolution of the stretched map, one of the others, and their sum. Of several stretched parts the one that
    has most work is taken; the rest are as they stand.
    """
    concat, is_quantised = _producer(place.node.inputs[0]), False
    while concat is not None and any(is_quantiser(concat, each) for each in ("DequantizeLinear", "QuantizeLinear")):
        concat, is_quantised = _producer(concat.inputs[0]), True
    if concat is None or not is_standard(concat, "Concat") or concat.graph is not place.graph:
        return None
    axis = concat.attributes.get("axis")
    parts = [value for value in concat.inputs if value is not None]
    counts = [(shapes.of(value, rank) + (None,) * 2)[1] for value in parts]
    if axis is None or axis.is_ref() or axis.as_int() % rank != 1 or len(parts) < 2 or None in counts:
        return None
    ends = np.cumsum([count or 0 for count in counts]).tolist()
    if ends[-1] != channels:
        return None
    found = []
    for number, (value, count, end) in enumerate(zip(parts, counts, ends, strict=True)):
        each = find_stretched(place, value, count or 0, rank, pads, shapes)
        if isinstance(each, Stretched):
            others = (*parts[:number], *parts[number + 1 :])
            begin = end - (count or 0)
            found.append(replace(each, nodes=(concat, *each.nodes), beside=others, channels=(begin, end)))
    return ROUNDED_TWICE if is_quantised and found else max(found, key=_products_saved, default=None)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _products_saved(part: Stretched) -> int:
    begin, end = part.channels or (0, 0)
    return (end - begin) * int(np.prod([axis.factor for axis in part.axes]))


@dataclass(frozen=True)
class _Reading:
    """A source, its channels, and how its elements arrive."""

    source: ir.Value
    channels: int
    index: IndexMap
    stages: tuple[Stage, ...]
    nodes: tuple[ir.Node, ...]

    @property
    def kind(self) -> Stretch | None:
        return self.index.kind

    @property
    def in_order(self) -> bool:
        return self.index.perm == tuple(range(len(self.index.perm)))


def _sources(x: ir.Value, place: Place) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...]]]:
    """Every value through which all of ``x`` goes, the nearest first, and the nodes from there to ``x``."""
    frontier: list[ir.Value] = [x]
    nodes: list[ir.Node] = []
    while len(nodes) < _LONGEST:
        latest = _latest(frontier)
        if latest is None or latest.graph is not place.graph or not (maps := map_inputs(latest, place.opset)):
            return
        nodes.append(latest)
        frontier = list(dict.fromkeys([*(value for value in frontier if value.producer() is not latest), *maps]))
        if len(frontier) == 1:
            yield frontier[0], tuple(nodes)


def _latest(values: Sequence[ir.Value]) -> ir.Node | None:
    """The node that makes the latest of ``values``; None where all of them come from outside of the graph."""
    makers = list(dict.fromkeys(node for value in values if (node := value.producer()) is not None))
    if len(makers) > _MOST_BRANCHES:
        return None
    if len(makers) < 2:
        return makers[0] if makers else None
    behind = [node for node in makers if not any(other is not node and _reads(other, node) for other in makers)]
    return behind[0] if behind else None


def _reads(later: ir.Node, earlier: ir.Node, depth: int = _LONGEST) -> bool:
    """Whether ``later`` depends on ``earlier``."""
    known: set[ir.Node] = set()
    left = [later]
    while left and len(known) < depth:
        node = left.pop()
        if node is earlier:
            return True
        known.add(node)
        left.extend(each for value in node.inputs if value and (each := value.producer()) and each not in known)
    return False


def _reading(
    source: ir.Value,
    nodes: tuple[ir.Node, ...],
    x: ir.Value,
    place: Place,
    channels: int,
    rank: int,
    shapes: Shapes,
) -> _Reading | None:
    """How the elements of ``source`` arrive in ``x``, in the same way for all sizes that are tried."""
    known = shapes.by_name.get(source.name or "")
    if known is None or len(known) != rank or not _same_type(shapes.type_of(source), nodes):
        return None
    for trial in _trials(known, rank):
        results = [_run(source, shape, x, place, channels, shapes) for shape in trial]
        first = results[0]
        if first is not None and all(each is not None and each[0] == first[0] for each in results):
            index, stages = first
            own = known[index.perm[1]]
            if not only_channels_differ(known, trial[0], index) or (index.folded and own is None):
                continue
            ordered = {stage.node: stage for stage in stages}
            found = tuple(ordered[node] for node in reversed(nodes) if node in ordered)
            return _Reading(source, own or channels, index, found, nodes)
    return None


def _run(
    source: ir.Value, shape: tuple[int, ...], x: ir.Value, place: Place, channels: int, shapes: Shapes
) -> tuple[IndexMap, tuple[Stage, ...]] | None:
    """One run over given sizes."""
    movement = Movement(source, shape, place.opset, _sizes_beside(source, shape, shapes), channels)
    numbers = movement.of(x)
    index = None if numbers is None else read(numbers, shape) or read_folded(numbers, shape)
    if index is None:
        return None
    for stage in movement.stages.values():
        if any(each and each.channel_axis is not None for each in stage.parameters) and not _keeps_channels(
            movement.of(stage.node.outputs[0]), shape, index
        ):
            return None
    return index, tuple(movement.stages.values())


def _keeps_channels(numbers: Array | None, shape: tuple[int, ...], index: IndexMap) -> bool:
    """Whether axis 1 of a map on the way holds the channels in their order."""
    if numbers is None or numbers.ndim != len(shape):
        return False
    found = np.unravel_index(np.maximum(numbers, 0), shape)[index.perm[1]]
    wanted = np.arange(numbers.shape[1]).reshape(-1, *(1,) * (numbers.ndim - 2))
    return numbers.shape[1] == shape[index.perm[1]] and bool(((found == wanted) | (numbers < 0)).all())


def _trials(known: Shape, rank: int) -> list[list[tuple[int, ...]]]:
    """Sizes to try: those that are known, several where some are open; of large maps first few channels."""
    whole = []
    for drawn in _OPEN if None in known else _OPEN[:1]:
        sizes = (*drawn[:2], *drawn[2:rank])
        whole.append(tuple(size or sizes[axis] for axis, size in enumerate(known)))
    if np.prod(whole[0]) <= _ELEMENTS:
        return [whole]
    few = [[(*sizes[:axis], 2, *sizes[axis + 1 :]) for sizes in whole] for axis in (1, rank - 1)]
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


def _why_not(nodes: Sequence[ir.Node]) -> str:
    """Why an upsampling in front of a convolution is left alone."""
    for node in nodes:
        mode = node.attributes.get("mode")
        if node.op_type in ("Resize", "Upsample") and mode is not None and mode.as_string() != "nearest":
            return f"its upsampling is {mode.as_string()}: only that of nearest pixels makes a deconv of it"
    return UNPROVEN
