"""Crops behind a deconv: Slice nodes, and Pad nodes with negative pads, that only cut the borders of its maps.

Frameworks without pads of their own (or with uneven ones) write a deconv without pads and cut its output afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from splitdeconv.deconv.ops import Size
from splitdeconv.formats.onnx.constants import integers

_OPEN_END = 2**31 - 1  # ends from here on mean "to the end", whatever the size


@dataclass(frozen=True)
class Crop:
    """Elements that are cut off at either end of each spatial axis; at least 0."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    def then(self, other: Crop) -> Crop:
        """One crop for this one and ``other`` behind it."""
        begin = tuple(one + more for one, more in zip(self.begin, other.begin, strict=True))
        return Crop(begin, tuple(one + more for one, more in zip(self.end, other.end, strict=True)))

    def sizes_of(self, sizes: Sequence[Size]) -> tuple[Size, ...]:
        """What is left of spatial axes of ``sizes``."""
        cut = zip(sizes, self.begin, self.end, strict=True)
        return tuple(None if size is None else size - begin - end for size, begin, end in cut)


def read_crop(node: ir.Node, data_input: int, opset: int, sizes: Sequence[Size]) -> Crop | None:
    """``node`` as a crop of a map whose spatial axes have ``sizes`` (None: unknown), or None where it is not one."""
    if data_input != 0 or any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    if node.op_type == "Slice":
        cuts = _slice_cuts(node, opset, sizes)
    elif node.op_type == "Pad":
        cuts = _pad_cuts(node, opset, len(sizes) + 2)
    else:
        return None
    if cuts is None or any(cuts[axis] != (0, 0) for axis in (0, 1)):
        return None
    crop = Crop(*zip(*cuts[2:], strict=True))
    nothing_left = any(size is not None and size < 1 for size in crop.sizes_of(sizes))
    return None if nothing_left else crop


def _slice_cuts(node: ir.Node, opset: int, sizes: Sequence[Size]) -> list[tuple[int, int]] | None:
    """Elements that a Slice cuts from both ends of every axis; None where it does more, or where that is not known."""
    starts, ends = (integers(node, number, name, opset) for number, name in ((1, "starts"), (2, "ends")))
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    axes = integers(node, 3, "axes", opset, absent=list(range(len(starts))))
    steps = integers(node, 4, "steps", opset, absent=[1] * len(starts))
    if axes is None or steps is None or len(axes) != len(starts) or set(steps) - {1}:
        return None
    whole: list[Size] = [None, None, *sizes]
    cuts = [(0, 0)] * len(whole)
    for axis, start, end in zip(axes, starts, ends, strict=True):
        begin, behind = _from_begin(start, whole[axis]), _from_end(end, whole[axis])
        if begin is None or behind is None:
            return None
        cuts[axis] = (begin, behind)
    return cuts


def _from_begin(start: int, size: Size) -> int | None:
    """Elements before ``start``."""
    if start >= 0:
        return start
    return None if size is None else max(0, size + start)


def _from_end(end: int, size: Size) -> int | None:
    """Elements from ``end`` on."""
    if end < 0:
        return -end
    if size is not None:
        return max(0, size - end)
    return 0 if end >= _OPEN_END else None


def _pad_cuts(node: ir.Node, opset: int, rank: int) -> list[tuple[int, int]] | None:
    """Elements that a Pad without a positive count cuts from both ends of every axis; None where it is not that."""
    mode = node.attributes.get("mode")
    pads = integers(node, 1, "pads", opset)
    axes = integers(node, 3, "axes", opset, absent=list(range(rank)))
    if (mode is not None and mode.as_string() != "constant") or pads is None or axes is None:
        return None
    if len(pads) != 2 * len(axes) or max(pads, default=0) > 0:
        return None
    cuts = [(0, 0)] * rank
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        cuts[axis] = (-begin, -end)
    return cuts
