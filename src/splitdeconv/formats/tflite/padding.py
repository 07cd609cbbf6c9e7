"""Pads of more axes than LiteRT's PAD takes: neighbours that are not padded are joined."""

from __future__ import annotations

from splitdeconv.deconv.ops import Pad, Shape, elements

LARGEST_PAD_RANK = 5  # of LiteRT's PAD


def can_pad(op: Pad, shape: Shape) -> bool:
    """Whether a map of ``shape`` can be padded so."""
    if len(shape) <= LARGEST_PAD_RANK:
        return True
    return len(joinable(op.begin, op.end)) <= LARGEST_PAD_RANK and None not in shape


def joinable(begin: tuple[int, ...], end: tuple[int, ...]) -> list[list[int]]:
    """Axes in runs: a run holds neighbours that are not padded, or one axis that is."""
    runs: list[list[int]] = []
    free = False
    for axis, counts in enumerate(zip(begin, end, strict=True)):
        padded = any(counts)
        if runs and free and not padded:
            runs[-1].append(axis)
        else:
            runs.append([axis])
        free = not padded
    return runs


def joined(shape: Shape, groups: list[list[int]]) -> Shape:
    """The shape with each run of axes as one."""
    return tuple(elements(tuple(shape[axis] for axis in group)) for group in groups)
