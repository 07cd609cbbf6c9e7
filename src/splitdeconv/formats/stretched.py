"""The search for convolutions of stretched maps, the same in every format; a format says what its nodes do.

Before: x ─ anything that repeats pixels or puts zeros between them ─ [element-wise, pads, slices] ─ convolution.
The nodes are not recognised by their names but by where they move the elements of ``x``.

A 1×1 convolution of an interpolated map is found by the node that interpolates.

A skip connection puts other maps beside the stretched one: its convolution becomes one of the stretched map, one of the
others, and their sum. What stands behind the concatenation works on both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.spec import Deconv, Stretch
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import AxisMap, IndexMap, only_channels_differ, without_borders
from splitdeconv.formats.joined import JoinedPart, MapT, NodeT
from splitdeconv.formats.written_convs import (
    MAY_SHRINK,
    NO_LARGER,
    ConvGeometry,
    beside,
    interpolated_note,
    left_note,
    stretched_first,
    stretched_note,
    why_left,
    written_deconv,
)

StageT = TypeVar("StageT")  # element-wise nodes as a format reads them


def way_back(
    frontier: Iterable[MapT],
    latest_of: Callable[[Collection[MapT]], NodeT | None],
    read_by: Callable[[NodeT], Sequence[MapT]],
    made_by: Callable[[NodeT], Collection[MapT]],
    longest: int,
) -> Iterator[tuple[MapT, tuple[NodeT, ...]]]:
    """Every map through which all goes that a convolution reads, the nearest first, and the nodes behind it.

    Args:
        frontier: what the convolution reads.
        latest_of: the last of the nodes that make some maps; None where it cannot be told.
        read_by: the maps whose elements a node moves; none of a node that does anything else.
        made_by: what a node makes.
        longest: how many nodes are gone back.

    Yields:
        A map, and the nodes from there to the convolution, the last first.
    """
    maps = list(dict.fromkeys(frontier))
    nodes: list[NodeT] = []
    while maps and len(nodes) < longest:
        latest = latest_of(maps)
        read = () if latest is None else read_by(latest)
        if latest is None or not read:
            return
        nodes.append(latest)
        made = made_by(latest)
        maps = list(dict.fromkeys([*(each for each in maps if each not in made), *read]))
        if len(maps) == 1:
            yield maps[0], tuple(nodes)


@dataclass(frozen=True, eq=False)
class Interpolated(Generic[NodeT, MapT]):
    """A map that a node interpolates.

    Attributes:
        source: before that.
        shape: of the source; None for open sizes.
        perm: as of :class:`Stretched`.
        how: its weights.
        node: it.
    """

    source: MapT
    shape: Shape
    perm: tuple[int, ...]
    how: Interpolation
    node: NodeT


@dataclass(frozen=True, eq=False)
class Stretched(Generic[NodeT, MapT, StageT]):
    """What stands between a map and a convolution.

    Attributes:
        source: the map.
        shape: of the source, with as many axes as the convolution's input; None for open sizes.
        geometry: of the convolution.
        in_channels: of all that the convolution reads.
        perm: ``perm[n]`` is the source's axis that becomes axis ``n``, batch and channels counted first.
        kind: how it is stretched.
        axes: of the spatial axes, without what ``borders`` says.
        borders: pixels of the small map to add at the begin and end of each axis, copies of its border pixel; negative
            where it is cropped.
        stages: element-wise nodes on the way, in order; they commute with the stretching.
        nodes: all nodes on the way, the last first.
        kept: a map on the way that stays because others read it too, or None.
        folded: the source's channels, and those of them that the convolution reads as one item of its batch; or None.
        part: of the concatenation that puts the stretched map beside others, or None.
        zeros: that are put around each spatial axis behind it, if nothing else is; None where more than zeros is.
        left: other parts of it that are stretched too.
        interpolation: that makes it larger; None where pixels are repeated, or zeros put between them.
    """

    source: MapT
    shape: Shape
    geometry: ConvGeometry
    in_channels: int
    perm: tuple[int, ...]
    kind: Stretch
    axes: tuple[AxisMap, ...]
    borders: tuple[tuple[int, int], ...]
    stages: tuple[StageT, ...]
    nodes: tuple[NodeT, ...]
    kept: MapT | None = None
    folded: tuple[int, int] | None = None
    part: JoinedPart[NodeT, MapT] | None = None
    zeros: tuple[tuple[int, int], ...] | None = None
    left: tuple[MapT, ...] = ()
    interpolation: Interpolation | None = None

    @property
    def channels(self) -> tuple[int, int] | None:
        """Where its channels lie among all that the convolution reads: first, and behind last; None where all are."""
        return None if self.part is None else self.part.channels

    @property
    def rows_first(self) -> tuple[int, int] | None:
        """Which rows of the kernel come first; None where all keep their order: in groups, and without other maps."""
        return self.channels if self.geometry.groups == 1 else None

    @property
    def maps(self) -> tuple[MapT, ...]:
        """What is read: the source, and the maps beside it."""
        return (self.source, *(self.part.beside if self.part else ()))

    @property
    def is_plain(self) -> bool:
        """Whether the small map is read as it is."""
        return not any(any(pair) for pair in self.borders)

    @property
    def is_in_order(self) -> bool:
        """Whether the source's axes are in the order of the convolution's input, channels before the spatial ones."""
        return self.perm == tuple(range(len(self.perm)))

    def sizes(self, shape: Shape) -> tuple[int | None, ...]:
        """Sizes of the small map that the convolution's deconv reads, for a source of ``shape``; channels second."""
        found = [shape[axis] for axis in self.perm]
        if self.folded is not None:
            own, read = self.folded
            found[:2] = [None if found[0] is None else found[0] * own // read, read]
        grown = zip(found[2:], self.borders, strict=True)
        return (*found[:2], *(None if size is None else size + sum(pair) for size, pair in grown))

    def deconv(self, shape: Shape, out_channels: int) -> Deconv:
        """The deconv that the convolution is, for a source of ``shape``.

        Raises:
            ValueError: sizes that no deconv has.
        """
        batch, _, *sizes = self.sizes(shape)
        channels = (self.in_channels if self.part is None else self.part.count, out_channels)
        geometry = self.geometry if self.part is None else replace(self.geometry, groups=1)
        found = written_deconv(self.kind, self.axes, geometry, channels, batch, sizes, self.interpolation)
        if self.part is None:
            return found
        before = 0 if self.rows_first else self.part.channels[0]
        numbers = self.part.total - self.part.count, before, self.geometry.groups
        return beside(found, *numbers, self.axes, self.zeros)

    def own_kernel(self, weight: Array) -> Array:
        """The convolution's weight as a deconv has it, IOHW; without groups the rows of the stretched map first."""
        return stretched_first(self.geometry.own_kernel(weight), self.rows_first)

    def weight_of(self, kernel: Array) -> Array:
        """The convolution's weight of which :meth:`own_kernel` makes ``kernel``."""
        order = stretched_first(np.arange(len(kernel)), self.rows_first)
        return self.geometry.weight_of(kernel[np.argsort(order)])

    def notes(self, kinds: Iterable[str], name_of: Callable[[MapT], str]) -> list[str]:
        """What becomes of the nodes on the way, and of other stretched parts.

        Args:
            kinds: of the nodes, the last first.
            name_of: a map's name.
        """
        kept = None if self.kept is None else name_of(self.kept)
        names = list(kinds)[::-1]
        if self.interpolation is None:
            note = stretched_note(self.kind, [axis.factor for axis in self.axes], names, kept)
        else:
            note = interpolated_note(self.interpolation, names, kept)
        return [note, left_note([name_of(each) for each in self.left])] if self.left else [note]

    def saved(self) -> float:
        """What taking it saves, for comparison with other parts of the same concatenation."""
        count = self.part.count if self.part else 0
        if self.interpolation is not None:
            return count * self.interpolation.gain(self.sizes(self.shape)[2:])
        return count * float(np.prod([axis.factor for axis in self.axes]))


@dataclass(frozen=True, eq=False)
class _Arrival(Generic[NodeT, MapT, StageT]):
    """A source, and how its elements arrive at a convolution."""

    source: MapT
    shape: Shape
    index: IndexMap
    stages: tuple[StageT, ...]
    nodes: tuple[NodeT, ...]

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The larger, the better to start from it."""
        return self.index.factor, self.index.perm == tuple(range(len(self.index.perm))), -len(self.nodes)


class Search(ABC, Generic[NodeT, MapT, StageT]):
    """Looks back from one convolution.

    Args:
        geometry: of the convolution.
        channels: that it reads.
    """

    def __init__(self, geometry: ConvGeometry, channels: int) -> None:
        self.geometry, self.channels = geometry, channels

    @abstractmethod
    def sources(self, part: JoinedPart[NodeT, MapT] | None) -> Iterable[tuple[MapT, tuple[NodeT, ...]]]:
        """What :func:`way_back` finds; through one part of a concatenation where that is given."""

    @abstractmethod
    def stretches(self, nodes: Sequence[NodeT]) -> bool:
        """Whether nodes on the way can make a map larger."""

    @abstractmethod
    def trials(
        self, source: MapT, nodes: Sequence[NodeT], part: JoinedPart[NodeT, MapT] | None
    ) -> Iterable[tuple[Shape, Sequence[tuple[int, ...]]]]:
        """The shape of a source, and sizes to run it with, which must agree; none where it is no map as it arrives."""

    @abstractmethod
    def run(
        self, source: MapT, nodes: Sequence[NodeT], shape: tuple[int, ...], part: JoinedPart[NodeT, MapT] | None
    ) -> tuple[IndexMap, Mapping[NodeT, StageT]] | None:
        """How the elements of a source of definite sizes arrive, and the element-wise nodes that they meet."""

    @abstractmethod
    def interpolated(self, part: JoinedPart[NodeT, MapT] | None) -> Interpolated[NodeT, MapT] | str | None:
        """The interpolated map that the convolution reads, or that ``part`` is; why its weights are not known to sum to
        1, or to make it larger; or None without an interpolation.
        """

    @abstractmethod
    def why_not(
        self, chain: Sequence[tuple[MapT, tuple[NodeT, ...]]], part: JoinedPart[NodeT, MapT] | None
    ) -> str | None:
        """Why no stretched map is found where an upsampling is; ``chain`` is all that :meth:`sources` gives."""

    @abstractmethod
    def parts(self) -> tuple[list[JoinedPart[NodeT, MapT]], str | None]:
        """The parts of the concatenation that the convolution reads, and why none of them can be taken, or None."""

    @abstractmethod
    def zeros_behind(self, part: JoinedPart[NodeT, MapT]) -> tuple[tuple[int, int], ...] | None:
        """Zeros that stand around each spatial axis behind a concatenation; None where anything else does."""

    def find(self) -> Stretched[NodeT, MapT, StageT] | str | None:
        """The stretched map that the convolution reads, why it cannot be taken for one, or None without one.

        Of the stretched parts of a concatenation the one that has most work is taken; the rest are as they stand.
        """
        whole = self._stretched(None)
        if isinstance(whole, Stretched) or self.geometry.turned:
            return whole
        parts, reason = self.parts()
        read = [self._stretched(part) for part in parts]
        found = [each for each in read if isinstance(each, Stretched) and each.folded is None]
        if not found:
            return next((each for each in (*read, whole) if isinstance(each, str)), None)
        if reason is not None:
            return reason
        best = max(found, key=Stretched.saved)
        left = tuple(each.part.value for each in found if each is not best and each.part)
        return replace(best, left=left, zeros=self.zeros_behind(best.part) if best.part else None)

    def _stretched(self, part: JoinedPart[NodeT, MapT] | None) -> Stretched[NodeT, MapT, StageT] | str | None:
        """Of all that the convolution reads, or of one part of it alone."""
        chain = list(self.sources(part))
        possible = any(self.stretches(nodes) for _, nodes in chain)
        found = [each for way in chain if (each := self._arrival(*way, part))] if possible else []
        stretched = [each for each in found if each.index.kind is not None]
        if not stretched:
            return self._by_interpolation(part) or self.why_not(chain, part)
        best = max(stretched, key=lambda each: each.rank)
        index, inner = best.index, without_borders(best.index, self.geometry.pads)
        if isinstance(inner, str) or index.kind is None:
            return inner if isinstance(inner, str) else None
        if (reason := why_left(index.kind, inner[0], self.geometry)) is not None:
            return reason
        own, given = best.shape[index.perm[1]], (best.source, best.shape, self.geometry, self.channels)
        folded = (own, self.channels) if index.folded and own else None
        return Stretched(*given, index.perm, index.kind, *inner, best.stages, best.nodes, folded=folded, part=part)

    def _by_interpolation(self, part: JoinedPart[NodeT, MapT] | None) -> Stretched[NodeT, MapT, StageT] | str | None:
        """A 1×1 convolution right behind an interpolation that makes its map larger, or why it stays behind that."""
        geometry, rank = self.geometry, len(self.geometry.kernel)
        right_behind = geometry.is_pointwise and not (part and part.behind)
        found = self.interpolated(part) if right_behind else None
        if not isinstance(found, Interpolated):
            return found
        sizes = [found.shape[axis] for axis in found.perm[2:]]
        if not found.how.enlarges(sizes):
            return MAY_SHRINK if found.how.sizes and None in sizes else NO_LARGER
        axes, none = (AxisMap("repeat", 1, 0, 0),) * rank, ((0, 0),) * rank
        given, what = (found.source, found.shape, geometry, self.channels, found.perm), found.how
        return Stretched(*given, "interpolate", axes, none, (), (found.node,), part=part, interpolation=what)

    def _arrival(
        self, source: MapT, nodes: tuple[NodeT, ...], part: JoinedPart[NodeT, MapT] | None
    ) -> _Arrival[NodeT, MapT, StageT] | None:
        """How the elements of ``source`` arrive, in the same way for all sizes that are tried."""
        for shape, trial in self.trials(source, nodes, part):
            runs = [self.run(source, nodes, sizes, part) for sizes in trial]
            first = runs[0]
            if first is None or any(each is None or each[0] != first[0] for each in runs):
                continue
            index, stages = first
            if only_channels_differ(shape, trial[0], index) and not (index.folded and shape[1] is None):
                ordered = tuple(stages[node] for node in reversed(nodes) if node in stages)
                return _Arrival(source, shape, index, ordered, nodes)
        return None
