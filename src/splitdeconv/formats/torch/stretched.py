"""Finding convolutions of stretched maps in exported programs, by where the nodes before them move a map's elements.

Before: x ─ anything that repeats pixels or puts zeros between them ─ [element-wise, pads, slices] ─ convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, fx

from splitdeconv.deconv.spec import Deconv, Stretch
from splitdeconv.formats.index_maps import AxisMap, IndexMap, read, without_borders
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.movement import (
    VIEWS,
    CatPart,
    ExportedMovement,
    MovedGraph,
    is_element_wise,
    name_of,
    plain_target,
    stretches,
    viewed,
    works_in_place,
)
from splitdeconv.formats.torch.skips import map_beside, parts_at, zeros_behind
from splitdeconv.formats.written_convs import (
    GROUPED_SKIP,
    UNPROVEN,
    ConvGeometry,
    beside,
    left_note,
    stretched_first,
    stretched_note,
    why_left,
    written_deconv,
)
from splitdeconv.torch_modules.functions import deconv_weight, pads_around, per_axis
from splitdeconv.torch_modules.graphs import ATEN, owner_of

_LONGEST = 200  # nodes between the map and the convolution
_ELEMENTS = 2**22  # of a map whose numbers are followed; of larger ones two channels
_OPEN = (
    (5, 6, 7, 9, 4),
    (4, 8, 5, 6, 9),
    (7, 11, 9, 5, 6),
)  # sizes to try where they are open; of 2 pixels a border is ambiguous
_CONVOLUTIONS = {
    **dict.fromkeys([ATEN.conv1d.default, ATEN.conv1d.padding], 1),
    **dict.fromkeys([ATEN.conv2d.default, ATEN.conv2d.padding], 2),
    **dict.fromkeys([ATEN.conv3d.default, ATEN.conv3d.padding], 3),
}


@dataclass(frozen=True, slots=True, eq=False)
class StretchedConv:
    """A convolution of a stretched map.

    Attributes:
        node: the convolution.
        weight, bias: its parameters.
        geometry: what it does.
        source: the map that is stretched.
        perm: ``perm[n]`` is the source's axis that becomes axis ``n`` of the convolution's input.
        kind, maps: how it is stretched, without ``borders``.
        borders: pixels of the small map to add at the begin and end of each axis, copies of its border pixel; negative
            where it is cropped.
        nodes: all nodes on the way, the last first.
        part: of the ``cat`` that puts the stretched map beside others, or None.
        zeros: that are put around each spatial axis behind it, if nothing else is; None where more than zeros is.
        left: other parts of it that are stretched too.
    """

    node: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    geometry: ConvGeometry
    source: fx.Node
    perm: tuple[int, ...]
    kind: Stretch
    maps: tuple[AxisMap, ...]
    borders: tuple[tuple[int, int], ...]
    nodes: tuple[fx.Node, ...]
    part: CatPart | None = None
    zeros: tuple[tuple[int, int], ...] | None = None
    left: tuple[fx.Node, ...] = ()

    @property
    def name(self) -> str:
        """For reports, as that of a call."""
        return name_for(self.node)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of the stretched map and of the output."""
        out_channels, per_group = (int(size) for size in self.weight.meta["val"].shape[:2])
        return self.part.count if self.part else per_group * self.geometry.groups, out_channels

    @property
    def sources(self) -> tuple[fx.Node, ...]:
        """The maps that are read: the source, and those beside it."""
        return (self.source, *(self.part.beside if self.part else ()))

    def deconv(self, shape: Sequence[int | None]) -> Deconv:
        """The deconv that it is, for a source of ``shape``."""
        batch, _, *sizes = (shape[axis] for axis in self.perm)
        grown = [
            None if size is None else size + begin + end for size, (begin, end) in zip(sizes, self.borders, strict=True)
        ]
        found = written_deconv(self.kind, self.maps, self.geometry, self.channels, batch, grown)
        if self.part is not None:
            found = beside(found, self.part.total - self.part.count, self.maps, self.zeros)
        return replace(found, has_bias=self.bias is not None)

    def own_kernel(self, weight: Tensor) -> Tensor:
        """The convolution's weight as a deconv has it, IOHW, the rows of the stretched map first."""
        rows = deconv_weight(weight, self.geometry.groups)
        return stretched_first(rows, None if self.part is None else self.part.channels)

    def front(self, x: Tensor, *others: Tensor) -> list[Tensor]:
        """The maps that the deconv reads, from the sources."""
        return [self._small(x), *([map_beside(self.part, others, pads=self.zeros is None)] if self.part else [])]

    def _small(self, x: Tensor) -> Tensor:
        x = x if self.perm == tuple(range(x.dim())) else x.permute(self.perm)
        for node in reversed(self.nodes):
            if is_element_wise(node):
                x = plain_target(node)(x, *node.args[1:], **node.kwargs)
        around = [count for pair in reversed(self.borders) for count in pair]
        if max(around) > 0:
            x = F.pad(x, [max(0, count) for count in around], mode="replicate")
        return F.pad(x, [min(0, count) for count in around]) if min(around) < 0 else x

    def notes(self) -> tuple[str, ...]:
        """What becomes of the nodes in front of the convolution."""
        names = [name_of(node) for node in reversed(self.nodes)]
        inside = {self.node, *self.nodes}
        kept = next((node.name for node in self.nodes if set(node.users) - inside), None)
        note = stretched_note(self.kind, [axis.factor for axis in self.maps], names, kept)
        return (note, left_note([each.name for each in self.left])) if self.left else (note,)


def name_for(node: fx.Node) -> str:
    """A node for reports: the source module and the node."""
    owner = owner_of(node)
    return f"{owner}:{node.name}" if owner else str(node.name)


def find_stretched(graph: fx.Graph, constants: StoredTensors) -> Iterator[StretchedConv | tuple[fx.Node, str]]:
    """The convolutions of stretched maps, or why one behind an upsampling stays; each as it is when it is reached."""
    known, size = MovedGraph(graph, constants), len(graph.nodes)
    for node in list(graph.nodes):
        if (call := _convolution(node)) is None:
            continue
        if len(graph.nodes) != size:
            known, size = MovedGraph(graph, constants), len(graph.nodes)
        if (found := _stretched(known, node, *call)) is not None:
            yield found if isinstance(found, StretchedConv) else (node, found)


def _convolution(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node | None, ConvGeometry] | None:
    """Input, weight, bias and numbers of a convolution with one to three axes and a batch."""
    if node.op != "call_function":
        return None
    if node.target == ATEN.convolution.default and not node.args[6]:
        x, weight, bias, strides, pads, dilations, _, _, groups = node.args
    elif node.target in _CONVOLUTIONS:
        names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        given = dict(zip(names, (None, None, None, 1, 0, 1, 1), strict=True))
        given |= dict(zip(names, node.args, strict=False)) | node.kwargs
        x, weight, bias, strides, pads, dilations, groups = (given[name] for name in names)
    else:
        return None
    kernel = tuple(int(size) for size in weight.meta["val"].shape[2:])
    if x.meta["val"].dim() != len(kernel) + 2:
        return None
    strides, dilations = per_axis(strides, len(kernel)), per_axis(dilations, len(kernel))
    around = pads_around(pads, kernel, dilations)
    return x, weight, bias, ConvGeometry(kernel, strides, dilations, around, groups, turned=False)


def _stretched(
    graph: MovedGraph, node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None, geometry: ConvGeometry
) -> StretchedConv | str | None:
    """Of all that a convolution reads, or of one part of a skip connection: that which saves most work."""
    whole = _stretched_part(graph, node, x, weight, bias, geometry, None)
    if isinstance(whole, StretchedConv):
        return whole
    read = [_stretched_part(graph, node, x, weight, bias, geometry, part) for part in parts_at(x)]
    found = [each for each in read if isinstance(each, StretchedConv)]
    if not found:
        return next((each for each in (*read, whole) if each is not None), None)
    if geometry.groups > 1:
        return GROUPED_SKIP
    best = max(found, key=_products_saved)
    left = tuple(each.part.node for each in found if each is not best and each.part)
    return replace(best, left=left, zeros=None if best.part is None else zeros_behind(graph, best.part, x))


def _products_saved(found: StretchedConv) -> int:
    return found.channels[0] * int(np.prod([axis.factor for axis in found.maps]))


def _stretched_part(
    graph: MovedGraph,
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None,
    geometry: ConvGeometry,
    part: CatPart | None,
) -> StretchedConv | str | None:
    chain = list(graph.sources(x, node, _LONGEST, part))
    if not any(stretches(nodes) for _, nodes in chain):
        return _interpolated(chain[-1][0] if chain else x)
    found = [(source, nodes, _index(graph, source, nodes, x, part)) for source, nodes in chain]
    stretched = [each for each in found if each[2] is not None and each[2].kind is not None]
    if not stretched:
        upsampled = any(name_of(each).startswith(("upsample", "_upsample")) for each in chain[-1][1])
        return UNPROVEN if upsampled else None
    source, nodes, index = max(stretched, key=lambda each: (_factor(each[2]), -len(each[1])))
    assert index is not None, "chosen above"
    assert index.kind is not None, "chosen above"
    inner = without_borders(index, geometry.pads)
    if isinstance(inner, str):
        return inner
    if (reason := why_left(index.kind, inner[0], geometry)) is not None:
        return reason
    return StretchedConv(node, weight, bias, geometry, source, index.perm, index.kind, *inner, nodes, part)


def _factor(index: IndexMap | None) -> int:
    return index.factor if index else 0


def _interpolated(node: fx.Node) -> str | None:
    """Why a convolution of what ``node`` gives stays, where that is an upsampling of another kind."""
    name = name_of(node)
    if not name.startswith(("upsample_", "_upsample_")):
        return None
    kind = name.lstrip("_").removeprefix("upsample_").rstrip("123d")
    return f"its upsampling is {kind}: only that of nearest pixels makes a deconv of it"


def _index(
    graph: MovedGraph, source: fx.Node, nodes: tuple[fx.Node, ...], x: fx.Node, part: CatPart | None
) -> IndexMap | None:
    """How the elements of ``source`` arrive in ``x``, in the same way for all sizes that are tried."""
    value = source.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() != x.meta["val"].dim() or value.dtype != x.meta["val"].dtype:
        return None
    is_open = not all(isinstance(size, int) for size in value.shape)
    runs = [_sizes(drawn) for drawn in (_OPEN if is_open else _OPEN[:1])]
    shapes = [[size_of(size) for size in value.shape] for size_of in runs]
    few = [[shape[0], 2, *shape[2:]] for shape in shapes]
    for trial in (few, shapes):
        if np.prod(trial[0]) > _ELEMENTS:
            continue
        each = zip(runs, trial, strict=True)
        found = [
            _run(ExportedMovement(graph, size_of, source, shape, part), nodes, x, shape) for size_of, shape in each
        ]
        if found[0] is not None and all(each == found[0] for each in found):
            return found[0]
    return None


def _run(movement: ExportedMovement, nodes: Sequence[fx.Node], x: fx.Node, shape: list[int]) -> IndexMap | None:
    try:
        with torch.no_grad():
            numbers = movement.run(nodes, x)
    except Exception:  # sizes that the nodes do not take, told by PyTorch in many ways
        return None
    return read(numbers, tuple(shape))


def _sizes(drawn: Sequence[int]) -> Callable[[Any], int]:
    """Definite sizes; each symbol gets the next number of ``drawn``."""
    known: dict[Any, int] = {}

    def size_of(size: Any) -> int:
        if not isinstance(size, torch.SymInt):
            return int(size)
        expression = size.node.expr
        for symbol in sorted(expression.free_symbols, key=str):
            known.setdefault(symbol, drawn[len(known) % len(drawn)])
        return int(expression.subs(known))

    return size_of


def unread_writes(site: StretchedConv) -> Iterator[fx.Node]:
    """The nodes on the way that write into a map which nothing else reads, the last first, one after the other."""
    for node in site.nodes:
        if works_in_place(node) and not node.users and not _is_read(viewed(node.args[0]), site.nodes):
            yield node


def _is_read(memory: fx.Node, writers: Sequence[fx.Node]) -> bool:
    """Whether anything but ``writers`` reads ``memory``, or a view of it."""
    views = [user for user in memory.users if name_of(user) in VIEWS]
    others = set(memory.users) - {*views, *writers}
    return bool(others) or any(_is_read(view, writers) for view in views)
