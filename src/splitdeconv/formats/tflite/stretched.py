"""Finding convolutions of stretched maps: from a convolution back to the map whose pixels it reads several times.

Before: x ─ anything that repeats pixels or puts zeros between them ─ [element-wise, PAD, STRIDED_SLICE] ─ CONV_2D.
The operators are not recognised by their names but by where they move the elements of ``x``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.deconv.ops import Shape, elements
from splitdeconv.deconv.spec import Stretch
from splitdeconv.formats.index_maps import AxisMap, IndexMap, only_channels_differ, read, without_borders
from splitdeconv.formats.tflite.elementwise import ElementWise
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.movement import Passed, TensorMovement, map_inputs
from splitdeconv.formats.tflite.moves import STRETCHING
from splitdeconv.formats.tflite.skips import TensorPart, parts_at

_LONGEST = 1000  # operators between the map and the convolution; one for each line of an axis where it is cut so
_MOST_BRANCHES = 500  # that are followed at once
_ELEMENTS, _MOST_ELEMENTS = 2**20, 2**24  # of maps that are followed with few channels first, and at all
_BATCHES = (2, 3)  # to try where the batch is open
_FEW = 2  # channels of large maps


@dataclass(frozen=True, slots=True, eq=False)
class StretchedTensor:
    """What stands between a map and a convolution.

    Attributes:
        source: tensor of the map.
        shape: of the map; with a height of 1 where the tensor has none.
        perm: ``perm[n]`` is its axis that becomes axis ``n``, channels counted as the second.
        kind: how it is stretched.
        axes: of the spatial axes, without what ``borders`` says.
        borders: pixels of the small map to add at the begin and end of each axis, copies of its border pixel; negative
            where it is cropped.
        stages: element-wise operators on the way, in order; they commute with the stretching.
        operators: all operators on the way, the nearest to the convolution first.
        kept: a tensor on the way that stays because others read it too, or None.
        part: of the CONCATENATION that puts the stretched map beside others, or None.
        zeros: that are put around each spatial axis behind it, if nothing else is; None where more than zeros is.
        left: other parts of it that are stretched too.
    """

    source: int
    shape: Shape
    perm: tuple[int, ...]
    kind: Stretch
    axes: tuple[AxisMap, ...]
    borders: tuple[tuple[int, int], ...]
    stages: tuple[ElementWise, ...]
    operators: tuple[int, ...]
    kept: int | None = None
    part: TensorPart | None = None
    zeros: tuple[tuple[int, int], ...] | None = None
    left: tuple[int, ...] = ()

    @property
    def channels(self) -> tuple[int, int] | None:
        """Where its channels lie among all that the convolution reads: first, and behind last; None where all are."""
        return None if self.part is None else self.part.channels

    @property
    def is_plain(self) -> bool:
        """Whether the small map is read as it is."""
        return not any(any(pair) for pair in self.borders)

    @property
    def order(self) -> tuple[int, ...]:
        """The source's axes in the order of the convolution's input, channels last."""
        return (self.perm[0], *self.perm[2:], self.perm[1])

    def small_sizes(self) -> tuple[int | None, ...]:
        """Batch and spatial sizes of the small map with its borders, which the convolution's deconv reads."""
        sizes = [self.shape[axis] for axis in self.perm[2:]]
        grown = zip(sizes, self.borders, strict=True)
        return (self.shape[0], *(None if size is None else size + sum(pair) for size, pair in grown))


@dataclass(frozen=True, slots=True, eq=False)
class _Arrival:
    """A source, and how its elements arrive."""

    source: int
    shape: Shape
    index: IndexMap
    stages: tuple[ElementWise, ...]
    operators: tuple[int, ...]


def find_stretched(
    graph: Graph, x: int, pads: Sequence[tuple[int, int]], part: TensorPart | None = None
) -> StretchedTensor | str | None:
    """The stretched map that a convolution reads, the reason why it cannot be taken for one, or None without one.

    Args:
        graph: the subgraph.
        x: what the convolution reads.
        pads: zeros that it puts around each spatial axis.
        part: of a CONCATENATION that alone is asked for, or None.
    """
    chain = list(_sources(graph, x, part))
    seen = {graph.name(operator) for _, operators in chain for operator in operators}
    if not seen & STRETCHING:
        producer = graph.producer(x if part is None else part.tensor)
        bilinear = producer is not None and graph.name(producer) == "RESIZE_BILINEAR"
        return "its upsampling is bilinear: only that of nearest pixels makes a deconv of it" if bilinear else None
    found = [each for source, operators in chain if (each := _reading(graph, source, operators, x, part))]
    stretched = [each for each in found if each.index.kind is not None]
    if not stretched:
        resized = "RESIZE_NEAREST_NEIGHBOR" in seen
        return "the upsampling in front of it does not repeat each pixel a whole number of times" if resized else None
    best = max(stretched, key=lambda each: (each.index.factor, -len(each.operators)))
    plain, kind = without_borders(best.index, pads), best.index.kind
    if isinstance(plain, str) or kind is None:
        return plain if isinstance(plain, str) else None
    return StretchedTensor(
        best.source, best.shape, best.index.perm, kind, *plain, best.stages, best.operators, part=part
    )


def find_part(graph: Graph, x: int, pads: Sequence[tuple[int, int]]) -> StretchedTensor | str | None:
    """As :func:`find_stretched`, of one part of a concatenation of channels: a skip connection's other part.

    Of several stretched parts the one that has most work is taken; the rest are as they stand.
    """
    read = [find_stretched(graph, x, pads, part) for part in parts_at(graph, x)]
    found = [each for each in read if isinstance(each, StretchedTensor)]
    if not found:
        return next((each for each in read if each is not None), None)
    best = max(found, key=_products_saved)
    left = tuple(each.part.tensor for each in found if each is not best and each.part)
    return replace(best, left=left, zeros=None if best.part is None else _zeros_behind(graph, x, best.part))


def _products_saved(found: StretchedTensor) -> int:
    return (found.part.count if found.part else 0) * int(np.prod([axis.factor for axis in found.axes]))


def _zeros_behind(graph: Graph, x: int, part: TensorPart) -> tuple[tuple[int, int], ...] | None:
    """Zeros that stand around each spatial axis behind a CONCATENATION; None where anything else does."""
    (together,) = graph.outputs_of(part.concat)
    shape = (*(1, 3, 4, 5)[: len(graph.shape(x)) - 1], part.total)
    numbers = TensorMovement(graph, together, shape).of(x)
    index = None if numbers is None else read(np.moveaxis(numbers, -1, 1), (*shape[:1], part.total, *shape[1:-1]))
    if index is None or any(axis.clamps_begin or axis.clamps_end for axis in index.axes):
        return None
    return tuple((axis.begin, axis.end) for axis in index.axes)


def _sources(graph: Graph, x: int, part: TensorPart | None) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every tensor through which all of ``x`` goes, the nearest first, and the operators from there to ``x``."""
    frontier, operators = [x], list[int]()
    while len(operators) < _LONGEST and len(frontier) <= _MOST_BRANCHES:
        producers = [producer for tensor in frontier if (producer := graph.producer(tensor)) is not None]
        if not producers:
            return
        latest = max(producers)
        maps = [part.tensor] if part is not None and latest == part.concat else map_inputs(graph, latest)
        if not maps:
            return
        operators.append(latest)
        made = graph.outputs_of(latest)
        frontier = list(dict.fromkeys([*(tensor for tensor in frontier if tensor not in made), *maps]))
        if len(frontier) == 1:
            yield frontier[0], tuple(operators)


def _reading(graph: Graph, source: int, operators: tuple[int, ...], x: int, part: TensorPart | None) -> _Arrival | None:
    """How the elements of ``source`` arrive in ``x``, in the same way for all sizes that are tried."""
    if not _same_types(graph, source, operators):
        return None
    for known in _seen(graph.shape(source), len(graph.shape(x))):
        for trial in _trials(known):
            results = [_run(graph, source, shape, x, part) for shape in trial]
            first = results[0]
            if first is not None and all(each is not None and each[0] == first[0] for each in results):
                index, stages = first
                if not only_channels_differ(known, trial[0], index):
                    continue
                return _Arrival(source, known, index, tuple(stages[each] for each in sorted(stages)), operators)
    return None


def _seen(known: Shape, rank: int) -> list[Shape]:
    """A source's shape as one of ``rank`` axes, only the batch open: with a height of 1 where it lacks one."""
    if None in known[1:] or 0 in known:
        return []
    if len(known) == 3 and rank == 4:
        return [(known[0], 1, *known[1:]), (*known[:2], 1, known[2])]
    return [known] if len(known) == rank else []


def _same_types(graph: Graph, source: int, operators: Sequence[int]) -> bool:
    made = {graph.type_name(tensor) for operator in operators for tensor in graph.outputs_of(operator)}
    return made == {graph.type_name(source)}


def _trials(known: Shape) -> list[list[tuple[int, ...]]]:
    """Sizes to try: two batches where it is open; of large maps first few channels."""
    whole = [tuple(size or batch for size in known) for batch in (_BATCHES if known[0] is None else (known[0],))]
    count = elements(known)
    few = [[(*sizes[:-1], _FEW) for sizes in whole]] if count > _ELEMENTS else []
    return [*few, whole] if count <= _MOST_ELEMENTS else few


def _run(
    graph: Graph, source: int, shape: tuple[int, ...], x: int, part: TensorPart | None
) -> tuple[IndexMap, dict[int, ElementWise]] | None:
    """One run over given sizes; the tensor may lack a height of 1 that ``shape`` has."""
    own = graph.shape(source)
    sizes = shape if len(own) == len(shape) else (shape[0], own[1] or 1, shape[-1])
    movement = TensorMovement(graph, source, sizes, part)
    numbers = movement.of(x)
    index = None if numbers is None else read(np.moveaxis(numbers, -1, 1), shape)
    if index is None or not all(_in_order(each, shape, index) for each in movement.passed.values()):
        return None
    return index, {operator: each.stage for operator, each in movement.passed.items()}


def _in_order(passed: Passed, shape: tuple[int, ...], index: IndexMap) -> bool:
    """Whether an element-wise operator's constant runs along the channels, in their order."""
    axis, numbers = passed.stage.axis, passed.numbers
    if axis is None:
        return True
    found = np.unravel_index(np.maximum(numbers, 0), shape)[index.perm[1]]
    wanted = np.arange(numbers.shape[axis]).reshape(-1, *(1,) * (-1 - axis))
    return numbers.shape[axis] == shape[index.perm[1]] and bool(((found == wanted) | (numbers < 0)).all())
