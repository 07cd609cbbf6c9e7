"""Finding convolutions of stretched maps: what the operators between a map and a convolution do with its elements."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.ops import Shape, elements
from splitdeconv.formats.index_maps import IndexMap, in_channel_order, read, zeros_around
from splitdeconv.formats.stretched import Interpolated, Search, Stretched, way_back
from splitdeconv.formats.tflite.elementwise import ElementWise
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.movement import TensorMovement, map_inputs
from splitdeconv.formats.tflite.moves import STRETCHING
from splitdeconv.formats.tflite.skips import TensorPart, parts_at
from splitdeconv.formats.written_convs import INTERPOLATED, UNKNOWN_SIZE, ConvGeometry, not_nearest

_LONGEST = 1000  # operators between the map and the convolution; one for each line of an axis where it is cut so
_MOST_BRANCHES = 500  # that are followed at once
_ELEMENTS, _MOST_ELEMENTS = 2**20, 2**24  # of maps that are followed with few channels first, and at all
_BATCHES = (2, 3)  # to try where the batch is open
_FEW = 2  # channels of large maps

StretchedTensor = Stretched[int, int, ElementWise]  # a source without a height has one of 1 in its shape


class TensorSearch(Search[int, int, ElementWise]):
    """Looks back from one convolution of a subgraph.

    Args:
        graph: the subgraph.
        x: what the convolution reads.
        geometry: what it does.
    """

    def __init__(self, graph: Graph, x: int, geometry: ConvGeometry) -> None:
        super().__init__(geometry, graph.shape(x)[-1] or 0)
        self._graph, self._x = graph, x

    def sources(self, part: TensorPart | None) -> Iterator[tuple[int, tuple[int, ...]]]:
        def latest(tensors: Collection[int]) -> int | None:
            producers = [made for tensor in tensors if (made := self._graph.producer(tensor)) is not None]
            return max(producers, default=None) if len(tensors) <= _MOST_BRANCHES else None

        def maps(operator: int) -> Sequence[int]:
            is_apart = part is not None and operator == part.concat
            return [part.value] if part is not None and is_apart else map_inputs(self._graph, operator)

        return way_back([self._x], latest, maps, self._graph.outputs_of, _LONGEST)

    def stretches(self, nodes: Sequence[int]) -> bool:
        return any(self._graph.name(operator) in STRETCHING for operator in nodes)

    def parts(self) -> tuple[list[TensorPart], str | None]:
        return parts_at(self._graph, self._x), None

    def zeros_behind(self, part: TensorPart) -> tuple[tuple[int, int], ...] | None:
        (together,), sizes = self._graph.outputs_of(part.concat), (3, 4, 5)[: len(self.geometry.kernel)]
        numbers = TensorMovement(self._graph, together, (1, *sizes, part.total)).of(self._x)
        return None if numbers is None else zeros_around(read(np.moveaxis(numbers, -1, 1), (1, part.total, *sizes)))

    def trials(
        self, source: int, nodes: Sequence[int], part: TensorPart | None
    ) -> Iterator[tuple[Shape, list[tuple[int, ...]]]]:
        made = {self._graph.type_name(tensor) for operator in nodes for tensor in self._graph.outputs_of(operator)}
        if made == {self._graph.type_name(source)}:
            for known in _seen(self._graph.shape(source), len(self.geometry.kernel) + 2):
                yield from ((known, sizes) for sizes in _sizes_to_try(known))

    def run(
        self, source: int, nodes: Sequence[int], shape: tuple[int, ...], part: TensorPart | None
    ) -> tuple[IndexMap, dict[int, ElementWise]] | None:
        own = self._graph.shape(source)
        sizes = shape if len(own) == len(shape) else (shape[0], own[1] or 1, shape[-1])
        movement = TensorMovement(self._graph, source, sizes, part)
        numbers = movement.of(self._x)
        index = None if numbers is None else read(np.moveaxis(numbers, -1, 1), shape)
        if index is None:
            return None
        for stage, met in movement.passed.values():
            if stage.axis is not None and not in_channel_order(met, stage.axis, shape, index):
                return None
        return index, {operator: stage for operator, (stage, _) in movement.passed.items()}

    def interpolated(self, part: TensorPart | None) -> Interpolated[int, int] | str | None:
        graph, tensor = self._graph, self._x if part is None else part.value
        operator = graph.producer(tensor)
        if operator is None or graph.name(operator) != "RESIZE_BILINEAR":
            return None
        if graph.type_name(tensor) != "float32":
            return INTERPOLATED
        source, options = graph.inputs_of(operator)[0], graph.operators[operator].builtinOptions
        sizes = [size for size in graph.shape(tensor)[1:3] if size is not None]
        if len(sizes) < 2:
            return UNKNOWN_SIZE
        corners = "align_corners" if options.alignCorners else "asymmetric"
        where = "half_pixel" if options.halfPixelCenters else corners
        how = Interpolation("linear", where, (), (sizes[0], sizes[1]))
        return Interpolated(source, graph.shape(source), (0, 3, 1, 2), how, operator)

    def why_not(self, chain: Sequence[tuple[int, tuple[int, ...]]], part: TensorPart | None) -> str | None:
        first, nodes = chain[-1] if chain else (self._x if part is None else part.value, ())
        producer = self._graph.producer(first)
        if producer is not None and self._graph.name(producer) == "RESIZE_BILINEAR":
            return not_nearest("bilinear", self.geometry, [self._graph.name(node) for node in nodes[::-1]])
        resized = any(self._graph.name(operator) == "RESIZE_NEAREST_NEIGHBOR" for _, way in chain for operator in way)
        return "the upsampling in front of it does not repeat each pixel a whole number of times" if resized else None


def _seen(known: Shape, rank: int) -> list[Shape]:
    """A source's shape as one of ``rank`` axes, only the batch open: with a height of 1 where it lacks one."""
    if None in known[1:] or 0 in known:
        return []
    if len(known) == 3 and rank == 4:
        return [(known[0], 1, *known[1:]), (*known[:2], 1, known[2])]
    return [known] if len(known) == rank else []


def _sizes_to_try(known: Shape) -> list[list[tuple[int, ...]]]:
    """Sizes to try: two batches where it is open; of large maps first few channels."""
    whole = [tuple(size or batch for size in known) for batch in (_BATCHES if known[0] is None else (known[0],))]
    count = elements(known)
    few = [[(*sizes[:-1], _FEW) for sizes in whole]] if count > _ELEMENTS else []
    return [*few, whole] if count <= _MOST_ELEMENTS else few
