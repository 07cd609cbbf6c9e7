"""Skip connections: maps that ``cat`` puts beside a stretched one, in front of a convolution.

Before: cat of a stretched map and others ─ [element-wise, pads] ─ convolution.
After: a convolution of the stretched map, one of the others, and their sum. What stands behind ``cat`` works on both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx

from splitdeconv.formats.index_maps import read
from splitdeconv.formats.torch.movement import (
    CatPart,
    ExportedMovement,
    MovedGraph,
    is_element_wise,
    name_of,
    plain_target,
)

_LONGEST = 64  # nodes between ``cat`` and the convolution
_PADS = frozenset(
    ["constant_pad_nd", "pad", *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3))]
)


def parts_at(x: fx.Node) -> list[CatPart]:
    """The parts of a map that a convolution reads; none where no ``cat`` of channels is behind it."""
    behind: list[fx.Node] = []
    while len(behind) < _LONGEST:
        if name_of(x) == "cat":
            return _parts(x, tuple(reversed(behind)))
        if not (is_element_wise(x) or (name_of(x) in _PADS and len(x.all_input_nodes) == 1)):
            return []
        behind.append(x)
        x = x.all_input_nodes[0]
    return []


def _parts(cat: fx.Node, behind: tuple[fx.Node, ...]) -> list[CatPart]:
    nodes = [each for each in cat.args[0] if isinstance(each, fx.Node)] if isinstance(cat.args[0], list | tuple) else []
    dim = cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", 0)
    counts = [each.meta["val"].shape[1] for each in nodes if each.meta["val"].dim() > 2]
    if not isinstance(dim, int) or len(counts) != len(nodes) or not all(isinstance(count, int) for count in counts):
        return []
    if len(nodes) < 2 or dim % cat.meta["val"].dim() != 1:
        return []
    ends = np.cumsum(counts).tolist()
    return [
        CatPart(cat, node, (*nodes[:n], *nodes[n + 1 :]), (end - count, end), ends[-1], behind)
        for n, (node, count, end) in enumerate(zip(nodes, counts, ends, strict=True))
    ]


def zeros_behind(graph: MovedGraph, part: CatPart, x: fx.Node) -> tuple[tuple[int, int], ...] | None:
    """Zeros that stand around each spatial axis behind ``cat``; None where anything else does."""
    shape = (1, 2, 3, 4, 5)[: x.meta["val"].dim()]
    try:
        with torch.no_grad():
            numbers = ExportedMovement(graph, int, part.cat, shape).run(part.behind[::-1], x)
    except Exception:  # pads that the small map does not take, told by PyTorch in many ways
        return None
    index = read(numbers, shape)
    if index is None or any(axis.clamps_begin or axis.clamps_end for axis in index.axes):
        return None
    return tuple((axis.begin, axis.end) for axis in index.axes)


def map_beside(part: CatPart, tensors: Sequence[Tensor], *, pads: bool) -> Tensor:
    """The map that the other convolution reads; ``pads`` where it does not take in those behind ``cat``."""
    y = torch.cat(list(tensors), 1) if len(tensors) > 1 else tensors[0]
    for node in part.behind:
        if is_element_wise(node):
            y = plain_target(node)(y, *node.args[1:], **node.kwargs)
        elif pads:
            y = node.target(y, *node.args[1:], **node.kwargs)
    return y
