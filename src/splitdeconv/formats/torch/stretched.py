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

from splitdeconv.deconv.interpolation import Interpolation, Kind
from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.spec import Deconv
from splitdeconv.formats.index_maps import IndexMap, read
from splitdeconv.formats.stretched import Interpolated, Search, Stretched
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.movement import (
    UPSAMPLING,
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
from splitdeconv.formats.written_convs import UNKNOWN_SIZE, UNPROVEN, ConvGeometry, not_nearest
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


_INTERPOLATIONS: dict[str, Kind] = {
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "linear",
    "upsample_trilinear3d": "linear",
    "upsample_bicubic2d": "cubic",
    **dict.fromkeys([f"{hidden}adaptive_avg_pool{n}d" for hidden in ("", "_") for n in (1, 2, 3)], "area"),
}
StretchedNode = Stretched[fx.Node, fx.Node, fx.Node]


@dataclass(frozen=True, slots=True, eq=False)
class StretchedConv:
    """A convolution of a stretched map.

    Attributes:
        node: the convolution.
        weight, bias: its parameters.
        stretched: the map that it reads.
    """

    node: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    stretched: StretchedNode

    @property
    def name(self) -> str:
        """For reports, as that of a call."""
        return name_for(self.node)

    def deconv(self, shape: Sequence[int | None]) -> Deconv:
        """The deconv that it is, for a source of ``shape``."""
        found = self.stretched.deconv(tuple(shape), int(self.weight.meta["val"].shape[0]))
        return replace(found, has_bias=self.bias is not None)

    def own_kernel(self, weight: Tensor) -> Tensor:
        """The convolution's weight as a deconv has it, IOHW; without groups the rows of the stretched map first."""
        kernel = deconv_weight(weight, self.stretched.geometry.groups)
        if self.stretched.rows_first is None:
            return kernel
        first, last = self.stretched.rows_first
        return torch.cat([kernel[first:last], kernel[:first], kernel[last:]])

    def front(self, x: Tensor, *others: Tensor) -> list[Tensor]:
        """The maps that the deconv reads, from the sources."""
        part, pads = self.stretched.part, self.stretched.zeros is None
        return [self._small(x), *([map_beside(part, others, pads=pads)] if part else [])]

    def _small(self, x: Tensor) -> Tensor:
        x = x if self.stretched.is_in_order else x.permute(self.stretched.perm)
        for node in self.stretched.stages:
            x = plain_target(node)(x, *node.args[1:], **node.kwargs)
        around = [count for pair in reversed(self.stretched.borders) for count in pair]
        if max(around) > 0:
            x = F.pad(x, [max(0, count) for count in around], mode="replicate")
        return F.pad(x, [min(0, count) for count in around]) if min(around) < 0 else x

    def notes(self) -> tuple[str, ...]:
        """What becomes of the nodes in front of the convolution."""
        inside = {self.node, *self.stretched.nodes}
        kept = next((node for node in self.stretched.nodes if set(node.users) - inside), None)
        stretched = replace(self.stretched, kept=kept)
        return tuple(stretched.notes(map(name_of, stretched.nodes), lambda node: node.name))


def name_for(node: fx.Node) -> str:
    """A node for reports: the source module and the node."""
    owner = owner_of(node)
    return f"{owner}:{node.name}" if owner else str(node.name)


def find_stretched(graph: fx.Graph, constants: StoredTensors) -> Iterator[StretchedConv | tuple[fx.Node, str]]:
    """The convolutions of stretched maps, or why one behind an upsampling stays; each as it is when it is reached."""
    known, size = MovedGraph(graph, constants), len(graph.nodes)
    for node in list(graph.nodes):
        if (call := convolution_of(node)) is None:
            continue
        if len(graph.nodes) != size:
            known, size = MovedGraph(graph, constants), len(graph.nodes)
        x, weight, bias, geometry = call
        channels = weight.meta["val"].shape[1] * geometry.groups
        if (found := NodeSearch(known, node, x, geometry, channels).find()) is not None:
            yield StretchedConv(node, weight, bias, found) if isinstance(found, Stretched) else (node, found)


def convolution_of(node: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node | None, ConvGeometry] | None:
    """Input, weight, bias and numbers of a convolution with one to three axes and a batch, all of them known."""
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
    _, ins, *kernel = weight.meta["val"].shape
    if x.meta["val"].dim() != len(kernel) + 2 or not all(isinstance(each, int) for each in (groups, ins, *kernel)):
        return None  # open batches as groups, and weights of open sizes, too
    strides, dilations = per_axis(strides, len(kernel)), per_axis(dilations, len(kernel))
    around = pads_around(pads, kernel, dilations)
    return x, weight, bias, ConvGeometry(tuple(kernel), strides, dilations, around, groups, turned=False)


class NodeSearch(Search[fx.Node, fx.Node, fx.Node]):
    """Looks back from one convolution of a graph.

    Args:
        graph: of the program.
        node: the convolution.
        x: what it reads.
        geometry: what it does.
        channels: that it reads.
    """

    def __init__(self, graph: MovedGraph, node: fx.Node, x: fx.Node, geometry: ConvGeometry, channels: int) -> None:
        super().__init__(geometry, channels)
        self._graph, self._node, self._x = graph, node, x
        self._size_of: dict[tuple[int, ...], Callable[[Any], int]] = {}  # of all sizes, by those of a source on trial

    def sources(self, part: CatPart | None) -> Iterator[tuple[fx.Node, tuple[fx.Node, ...]]]:
        return self._graph.sources(self._x, self._node, _LONGEST, part)

    def stretches(self, nodes: Sequence[fx.Node]) -> bool:
        return stretches(nodes)

    def parts(self) -> tuple[list[CatPart], str | None]:
        return parts_at(self._x), None

    def zeros_behind(self, part: CatPart) -> tuple[tuple[int, int], ...] | None:
        return zeros_behind(self._graph, part, self._x)

    def trials(
        self, source: fx.Node, nodes: Sequence[fx.Node], part: CatPart | None
    ) -> Iterator[tuple[Shape, list[tuple[int, ...]]]]:
        value, x = source.meta.get("val"), self._x.meta["val"]
        if not isinstance(value, Tensor) or value.dim() != x.dim() or value.dtype != x.dtype:
            return
        known = _known(value)
        runs = [_sizes(drawn) for drawn in (_OPEN if None in known else _OPEN[:1])]
        shapes = [tuple(map(size_of, value.shape)) for size_of in runs]
        for sizes in ([(shape[0], 2, *shape[2:]) for shape in shapes], shapes):
            if np.prod(sizes[0]) <= _ELEMENTS:
                self._size_of = dict(zip(sizes, runs, strict=True))
                yield known, sizes

    def run(
        self, source: fx.Node, nodes: Sequence[fx.Node], shape: tuple[int, ...], part: CatPart | None
    ) -> tuple[IndexMap, dict[fx.Node, fx.Node]] | None:
        try:
            with torch.no_grad():
                movement = ExportedMovement(self._graph, self._size_of[shape], source, shape, part)
                numbers = movement.run(nodes, self._x)
        except Exception:  # sizes that the nodes do not take, told by PyTorch in many ways
            return None
        index = read(numbers, shape)
        return None if index is None else (index, {node: node for node in nodes if is_element_wise(node)})

    def interpolated(self, part: CatPart | None) -> Interpolated[fx.Node, fx.Node] | str | None:
        node = self._x if part is None else part.value
        kind = _INTERPOLATIONS.get(name_of(node))
        if kind is None:
            return None
        names = [each.name for each in node.target._schema.arguments]
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        source, rank = node.args[0], len(self.geometry.kernel)
        shape, out_shape = (_known(each.meta["val"]) for each in (source, node))
        scales = given.get("scale_factors") or [given.get(f"scales{axis}") for axis in ("_d", "_h", "_w")[-rank:]]
        corners = "align_corners" if given.get("align_corners") else "half_pixel"
        if kind == "area" or None in scales:
            sizes = tuple(size for size in out_shape[-rank:] if size is not None)
            how = Interpolation(kind, corners, (), sizes) if len(sizes) == rank else None
        else:
            how = Interpolation(kind, corners, tuple(map(float, scales)))
        if len(shape) != rank + 2 or how is None:
            return UNKNOWN_SIZE
        return Interpolated(source, shape, tuple(range(rank + 2)), how, node)

    def why_not(self, chain: Sequence[tuple[fx.Node, tuple[fx.Node, ...]]], part: CatPart | None) -> str | None:
        first, nodes = chain[-1] if chain else (self._x, ())
        if any(name_of(each).startswith(UPSAMPLING) for each in nodes):
            return UNPROVEN
        name = name_of(first)
        if not name.startswith(("upsample_", "_upsample_")):
            return None
        kind = name.lstrip("_").removeprefix("upsample_").rstrip("123d")
        return not_nearest(kind, self.geometry, [name_of(each) for each in nodes[::-1]])


def _known(value: Tensor) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in value.shape)


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
    nodes = site.stretched.nodes
    for node in nodes:
        if works_in_place(node) and not node.users and not _is_read(viewed(node.args[0]), nodes):
            yield node


def _is_read(memory: fx.Node, writers: Sequence[fx.Node]) -> bool:
    """Whether anything but ``writers`` reads ``memory``, or a view of it."""
    views = [user for user in memory.users if name_of(user) in VIEWS]
    others = set(memory.users) - {*views, *writers}
    return bool(others) or any(_is_read(view, writers) for view in views)
