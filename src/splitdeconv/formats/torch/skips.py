"""Skip connections: maps that ``cat`` puts beside a stretched one, in front of a convolution.

Before: cat of a stretched map and others ─ [element-wise, pads] ─ convolution.
After: a convolution of the stretched map, one of the others, and their sum. What stands behind ``cat`` works on both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from splitdeconv.formats.index_maps import read, zeros_around
from splitdeconv.formats.joined import parts_of, way_behind
from splitdeconv.formats.torch.movement import (
    CatPart,
    ExportedMovement,
    MovedGraph,
    is_element_wise,
    name_of,
    plain_target,
)

_PADS = frozenset(
    ["constant_pad_nd", "pad", *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3))]
)


def parts_at(x: fx.Node) -> list[CatPart]:
    """The parts of a map that a convolution reads; none where no ``cat`` of channels is behind it."""
    way = way_behind(x, lambda node: name_of(node) == "cat", _before)
    if not way:
        return []
    cat, *behind = way
    nodes = [each for each in cat.args[0] if isinstance(each, fx.Node)] if isinstance(cat.args[0], list | tuple) else []
    dim = cat.args[1] if len(cat.args) > 1 else cat.kwargs.get("dim", 0)
    counts = [each.meta["val"].shape[1] for each in nodes if each.meta["val"].dim() > 2]
    if not isinstance(dim, int) or len(counts) != len(nodes) or not all(isinstance(count, int) for count in counts):
        return []
    return parts_of(cat, nodes, counts, behind) if dim % cat.meta["val"].dim() == 1 else []


def _before(node: fx.Node) -> fx.Node | None:
    moves = is_element_wise(node) or (name_of(node) in _PADS and len(node.all_input_nodes) == 1)
    return node.all_input_nodes[0] if moves else None


def zeros_behind(graph: MovedGraph, part: CatPart, x: fx.Node) -> tuple[tuple[int, int], ...] | None:
    """Zeros that stand around each spatial axis behind ``cat``; None where anything else does."""
    shape = (1, 2, 3, 4, 5)[: x.meta["val"].dim()]
    try:
        with torch.no_grad():
            numbers = ExportedMovement(graph, int, part.concat, shape).run(part.behind[::-1], x)
    except Exception:  # pads that the small map does not take, told by PyTorch in many ways
        return None
    return zeros_around(read(numbers, shape))


def map_beside(part: CatPart, tensors: Sequence[Tensor], *, pads: bool) -> Tensor:
    """The map that the other convolution reads; ``pads`` where it does not take in those behind ``cat``."""
    y = torch.cat(list(tensors), 1) if len(tensors) > 1 else tensors[0]
    for node in part.behind:
        if is_element_wise(node):
            y = plain_target(node)(y, *node.args[1:], **node.kwargs)
        elif pads:
            y = node.target(y, *node.args[1:], **node.kwargs)
    return y
