"""Concatenations of channels in front of a convolution: the maps that one puts together, and the way back to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.written_convs import stretched_first

_LONGEST = 64  # nodes between a concatenation and the convolution

NodeT = TypeVar("NodeT")  # of a format: its nodes,
MapT = TypeVar("MapT")  # and the maps that they make


@dataclass(frozen=True, eq=False)
class JoinedPart(Generic[NodeT, MapT]):
    """One of the maps that a concatenation of channels puts together.

    Attributes:
        concat: the node.
        value: the map.
        beside: the others, in their order.
        channels: where its channels lie among all: first, and behind last.
        total: channels of all.
        behind: the nodes between the concatenation and the convolution, in order.
    """

    concat: NodeT
    value: MapT
    beside: tuple[MapT, ...]
    channels: tuple[int, int]
    total: int
    behind: tuple[NodeT, ...]

    @property
    def count(self) -> int:
        """Its channels."""
        return self.channels[1] - self.channels[0]

    def numbers(self, *, own: bool) -> Array:
        """The numbers of its own channels among all, or of those beside it."""
        order = stretched_first(np.arange(self.total), self.channels)
        return order[: self.count] if own else order[self.count :]


def parts_of(
    concat: NodeT, values: Sequence[MapT], counts: Sequence[int], behind: Iterable[NodeT]
) -> list[JoinedPart[NodeT, MapT]]:
    """The parts of a concatenation.

    Args:
        concat: the node.
        values: that it puts together.
        counts: channels of each, 0 where they are unknown; there are no parts then.
        behind: the nodes from there to the convolution, in order.
    """
    if len(values) < 2 or 0 in counts:
        return []
    ends = np.cumsum(counts).tolist()
    return [
        JoinedPart(concat, value, (*values[:n], *values[n + 1 :]), (end - count, end), ends[-1], tuple(behind))
        for n, (value, count, end) in enumerate(zip(values, counts, ends, strict=True))
    ]


def way_behind(
    node: NodeT | None, is_concatenation: Callable[[NodeT], bool], before: Callable[[NodeT], NodeT | None]
) -> list[NodeT]:
    """A concatenation and the nodes behind it up to ``node``, in order; nothing where none is there.

    Args:
        node: the last.
        is_concatenation: of a node.
        before: the node before one that works on each element, or pads; None before any other.
    """
    behind: list[NodeT] = []
    while node is not None and len(behind) < _LONGEST:
        behind.append(node)
        if is_concatenation(node):
            return behind[::-1]
        node = before(node)
    return []
