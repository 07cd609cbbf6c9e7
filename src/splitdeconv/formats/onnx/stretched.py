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
from splitdeconv.formats.onnx.graph import Place
from splitdeconv.formats.onnx.movement import STRETCHING, Movement, map_inputs
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.skips import ConcatPart, parts_at
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
        folded: the source's channels, and those of them that the convolution reads as one item of its batch; or None.
        part: of the Concat that puts the stretched map beside others, or None.
        left: other parts of it that are stretched too.
    """

    source: ir.Value
    perm: tuple[int, ...]
    kind: Stretch
    axes: tuple[AxisMap, ...]
    borders: tuple[tuple[int, int], ...]
    stages: tuple[Stage, ...]
    nodes: tuple[ir.Node, ...]
    kept: ir.Value | None = None
    folded: tuple[int, int] | None = None
    part: ConcatPart | None = None
    left: tuple[ir.Value, ...] = ()

    @property
    def channels(self) -> tuple[int, int] | None:
        """Where its channels lie among all that the convolution reads: first, and behind last; None where all are."""
        return None if self.part is None else self.part.channels

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
    place: Place,
    channels: int,
    rank: int,
    pads: Sequence[tuple[int, int]],
    shapes: Shapes,
    part: ConcatPart | None = None,
) -> Stretched | str | None:
    """The stretched map that a convolution reads, the reason why it cannot be taken for one, or None without one.

    Args:
        place: the convolution.
        channels: of the map.
        rank: number of axes of its input.
        pads: zeros that it puts around each spatial axis.
        shapes: of the model's values.
        part: of a Concat that alone is asked for, or None.
    """
    x = place.node.inputs[0]
    if place.in_function or x is None:
        return None
    chain = list(_sources(x, place, part))
    seen = {node.op_type for _, nodes in chain for node in nodes}
    if not seen & STRETCHING:
        return None
    found = [each for source, nodes in chain if (each := _reading(source, nodes, place, channels, rank, shapes, part))]
    stretched = [each for each in found if each.kind is not None]
    if not stretched:
        return _why_not(chain[-1][1]) if seen & {"Resize", "Upsample"} else None
    best = max(stretched, key=lambda each: (each.index.factor, each.in_order, -len(each.nodes)))
    plain = without_borders(best.index, pads)
    if isinstance(plain, str) or best.kind is None:
        return plain if isinstance(plain, str) else None
    made = Stretched(best.source, best.index.perm, best.kind, *plain, best.stages, best.nodes, part=part)
    return replace(made, folded=(best.channels, channels)) if best.index.folded else made


def find_part(
    place: Place, channels: int, rank: int, pads: Sequence[tuple[int, int]], shapes: Shapes
) -> Stretched | str | None:
    """As :func:`find_stretched`, of one part of a concatenation of channels: a skip connection's other part.

    Of several stretched parts the one that has most work is taken; the rest are as they stand. Where the concatenation
    is quantised anew, or none can be taken, the reason.
    """
    parts, is_quantised = parts_at(place, channels, rank, shapes)
    read = [find_stretched(place, part.count, rank, pads, shapes, part) for part in parts]
    found = [each for each in read if isinstance(each, Stretched) and each.folded is None]
    if is_quantised and found:
        return ROUNDED_TWICE
    if not found:
        return next((each for each in read if isinstance(each, str)), None)
    best = max(found, key=_products_saved)
    return replace(best, left=tuple(each.part.value for each in found if each is not best and each.part))


def _products_saved(found: Stretched) -> int:
    return (found.part.count if found.part else 0) * int(np.prod([axis.factor for axis in found.axes]))


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


def _sources(x: ir.Value, place: Place, part: ConcatPart | None) -> Iterator[tuple[ir.Value, tuple[ir.Node, ...]]]:
    """Every value through which all of ``x`` goes, the nearest first, and the nodes from there to ``x``."""
    frontier: list[ir.Value] = [x]
    nodes: list[ir.Node] = []
    while len(nodes) < _LONGEST:
        latest = _latest(frontier)
        if latest is None or latest.graph is not place.graph:
            return
        maps = (part.value,) if part is not None and latest is part.concat else map_inputs(latest, place.opset)
        if not maps:
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
    place: Place,
    channels: int,
    rank: int,
    shapes: Shapes,
    part: ConcatPart | None,
) -> _Reading | None:
    """How the elements of ``source`` arrive at the convolution, in the same way for all sizes that are tried."""
    known = shapes.by_name.get(source.name or "")
    if known is None or len(known) != rank or not _same_type(shapes.type_of(source), nodes):
        return None
    for trial in _trials(known, rank):
        results = [_run(source, shape, place, channels, shapes, part) for shape in trial]
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
    source: ir.Value, shape: tuple[int, ...], place: Place, channels: int, shapes: Shapes, part: ConcatPart | None
) -> tuple[IndexMap, tuple[Stage, ...]] | None:
    """One run over given sizes."""
    x = place.node.inputs[0]
    movement = Movement(source, shape, place.opset, _sizes_beside(source, shape, shapes), channels, part)
    numbers = None if x is None else movement.of(x)
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
