"""Reading an index map: which stretching of a map, and which borders around it, put its elements where they arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.spec import Axis, Deconv, Stretch
from splitdeconv.deconv.weights import Array, Weights

ZERO, OTHER = -1, -2  # in the place of an element's number: what the model fills with zero, and with anything else


@dataclass(frozen=True, slots=True)
class AxisMap:
    """One axis of a stretched map.

    Attributes:
        kind: how it is stretched; ``repeat`` where ``factor`` is 1.
        factor: places for each pixel.
        begin, end: zeros around the stretched map, which ends with the last pixel; negative where it is cut off.
        clamps_begin, clamps_end: whether the border pixel stands there instead of zeros.
    """

    kind: Stretch
    factor: int
    begin: int
    end: int
    clamps_begin: bool = False
    clamps_end: bool = False

    def places(self, size: int) -> Array:
        """The index map of an axis of ``size`` pixels; −1 for zeros."""
        last = size * self.factor - 1 if self.kind == "repeat" else (size - 1) * self.factor
        outputs = np.arange(-self.begin, last + 1 + self.end)
        found = outputs // self.factor
        if self.kind == "zeros":
            found = np.where(outputs % self.factor == 0, found, -1)
        before, behind = outputs < 0, outputs > last
        found = np.where(before, 0 if self.clamps_begin else -1, found)
        return np.where(behind, size - 1 if self.clamps_end else -1, found)


@dataclass(frozen=True, slots=True)
class IndexMap:
    """How the elements of a map arrive.

    Attributes:
        perm: ``perm[n]`` is the source's axis that becomes axis ``n``.
        axes: of the spatial axes.
        folded: whether some of the source's channels arrive as further items of the batch.
    """

    perm: tuple[int, ...]
    axes: tuple[AxisMap, ...]
    folded: bool = False

    @property
    def kind(self) -> Stretch | None:
        """How the map is stretched, or None where it is not, or in two ways."""
        kinds = {axis.kind for axis in self.axes if axis.factor > 1}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def factor(self) -> int:
        """Places of the stretched map for each pixel."""
        return int(np.prod([axis.factor for axis in self.axes]))


def read(numbers: Array, shape: tuple[int, ...]) -> IndexMap | None:
    """The index map of ``numbers``, which arrived at a convolution ``(N, C, *sizes)`` from a source of ``shape``.

    Channels-first sources come first, then channels-last ones.
    """
    rank = numbers.ndim
    if rank != len(shape) or rank < 3 or not numbers.size or (numbers < -1).any():
        return None
    for perm in (tuple(range(rank)), (0, rank - 1, *range(1, rank - 1))):
        places = _by_axis(numbers, shape, perm)
        if places is None:
            continue
        sizes = [shape[axis] for axis in perm]
        if not all(np.array_equal(places[n], np.arange(sizes[n])) for n in (0, 1)):
            continue
        axes = [_axis(found, size) for found, size in zip(places[2:], sizes[2:], strict=True)]
        if all(axis is not None for axis in axes):
            return IndexMap(perm, tuple(axis for axis in axes if axis is not None))
    return None


def read_folded(numbers: Array, shape: tuple[int, ...]) -> IndexMap | None:
    """As :func:`read`, of channels-first maps whose channels, or some of them, count as further items of the batch."""
    rank, (items, channels) = numbers.ndim, numbers.shape[:2]
    if rank != len(shape) or items * channels != shape[0] * shape[1] or shape[1] % channels:
        return None
    found = read(numbers, (items, channels, *shape[2:]))
    return replace(found, folded=True) if found is not None and found.perm == tuple(range(rank)) else None


def zeros_around(index: IndexMap | None) -> tuple[tuple[int, int], ...] | None:
    """Zeros around each spatial axis of a map that is not stretched; None where anything else stands there."""
    if index is None or any(axis.clamps_begin or axis.clamps_end for axis in index.axes):
        return None
    return tuple((axis.begin, axis.end) for axis in index.axes)


def only_channels_differ(known: Shape, tried: tuple[int, ...], index: IndexMap) -> bool:
    """Whether a run over ``tried`` sizes, few of the channels, says how a map of ``known`` sizes is stretched."""
    sizes = enumerate(zip(known, tried, strict=True))
    return all(size in (None, few) for axis, (size, few) in sizes if axis != index.perm[1])


def in_channel_order(numbers: Array, axis: int, shape: tuple[int, ...], index: IndexMap) -> bool:
    """Whether ``axis`` of a map on the way, from a source of ``shape``, holds the channels in their order."""
    axis %= numbers.ndim
    if numbers.shape[axis] != shape[index.perm[1]]:
        return False
    found = np.unravel_index(np.maximum(numbers, 0), shape)[index.perm[1]]
    wanted = np.arange(numbers.shape[axis]).reshape(-1, *(1,) * (numbers.ndim - 1 - axis))
    return bool(((found == wanted) | (numbers < 0)).all())


def _by_axis(numbers: Array, shape: tuple[int, ...], perm: tuple[int, ...]) -> list[Array] | None:
    """For each axis the index that it reads, −1 for zeros; None where axes do not read independently."""
    there = numbers >= 0
    coordinates = np.unravel_index(np.maximum(numbers, 0), shape)
    places = []
    for axis, source in enumerate(perm):
        others = tuple(each for each in range(numbers.ndim) if each != axis)
        places.append(np.where(there, coordinates[source], -1).max(axis=others))
    strides = [int(np.prod(shape[source + 1 :], dtype=np.int64)) for source in perm]
    wanted, inside = np.zeros((), np.int64), np.ones((), bool)
    for found, stride in zip(places, strides, strict=True):
        wanted = np.add.outer(wanted, found * stride)
        inside = np.logical_and.outer(inside, found >= 0)
    return places if np.array_equal(np.where(inside, wanted, -1), numbers) else None


def _axis(places: Array, size: int) -> AxisMap | None:
    """One axis; what is proposed must give the very map."""
    there = np.flatnonzero(places >= 0)
    if not there.size:
        return None
    for kind, factor, first in _proposals(places, there, size):
        last = first + (size * factor if kind == "repeat" else (size - 1) * factor + 1)
        clamps = (first > 0 and places[0] == 0, last < places.size and places[-1] == size - 1)
        found = AxisMap(kind, factor, first, places.size - last, *(bool(each) for each in clamps))
        if np.array_equal(found.places(size), places):
            return found
    return None


def _proposals(places: Array, there: Array, size: int) -> list[tuple[Stretch, int, int]]:
    """Stretchs, factors, and where the first pixel would stand."""
    found: list[tuple[Stretch, int, int]] = []
    values = places[there]
    steps = np.flatnonzero(np.diff(values)) + 1
    starts, pixels = there[steps], values[steps]
    if starts.size > 1:
        found.append(("repeat", int(starts[1] - starts[0]), int(starts[0] - pixels[0] * (starts[1] - starts[0]))))
    elif starts.size == 1:
        runs = sorted({int(starts[0] - there[0]), int(there[-1] + 1 - starts[0])}, reverse=True)
        found.extend(("repeat", run, int(starts[0] - pixels[0] * run)) for run in runs)
    elif size == 1:
        found.append(("repeat", int(there.size), int(there[0])))
    if there.size > 1:
        factor = int(there[1] - there[0])
        if factor > 1:
            found.append(("zeros", factor, int(there[0] - values[0] * factor)))
    return [each for each in found if each[1] >= 1]


def without_borders(
    index: IndexMap, pads: Sequence[tuple[int, int]]
) -> tuple[tuple[AxisMap, ...], tuple[tuple[int, int], ...]] | str:
    """Copies of border pixels, and crops of whole pixels before zeros, as borders of the small map.

    Args:
        index: of the stretched map.
        pads: zeros that the convolution puts around each spatial axis.

    Returns:
        The axes without them, and the pixels to add to the small map at the begin and end of each axis, negative where
        it is cropped; or why the convolution has to stay.
    """
    axes, borders = [], []
    for axis, pad in zip(index.axes, pads, strict=True):
        ends = [
            _border(axis, getattr(axis, side), clamps, zeros)
            for side, clamps, zeros in (("begin", axis.clamps_begin, pad[0]), ("end", axis.clamps_end, pad[1]))
        ]
        if any(zeros > 0 > left for (_, left), zeros in zip(ends, pad, strict=True)):
            return "a crop inside of a pixel's copies, and then zeros, are not the pads of any deconv"
        borders.append((ends[0][0], ends[1][0]))
        axes.append(replace(axis, begin=ends[0][1], end=ends[1][1], clamps_begin=False, clamps_end=False))
    return tuple(axes), tuple(borders)


def _border(axis: AxisMap, around: int, clamps: bool, zeros: int) -> tuple[int, int]:
    """Pixels to add to the small map at one end, and what is left around the stretched one."""
    if clamps:
        pixels = -(-around // axis.factor)
    elif zeros > 0 > around:
        pixels = -(-around // axis.factor) if axis.kind == "repeat" else around // axis.factor
    else:
        pixels = 0
    return pixels, around - pixels * axis.factor


def spread(x: Array, kernel: Array, axes: Sequence[Axis], groups: int) -> Array | None:
    """Numbers of elements by a depthwise deconv of ones that do not overlap; None for any other deconv.

    Args:
        x: ``(N, C, *sizes)``.
        kernel: IOHW.
        axes: of the deconv.
        groups: of channels, or 1 for a dense kernel that is zero between channels.
    """
    channels = x.shape[1]
    if kernel.shape[0] != channels or groups not in (1, channels):
        return None
    taps = taps_of_ones(kernel, groups)
    if taps is None:
        return None
    ones = Weights(np.broadcast_to(taps.astype(np.int64), (channels, 1, *taps.shape)))
    deconv = Deconv(tuple(axes), channels, channels, channels)
    if reference.deconv(np.ones_like(x), ones, deconv).max() > 1:
        return None
    return reference.deconv(x - ZERO, ones, deconv) + ZERO


def taps_of_ones(kernel: Array, groups: int) -> Array | None:
    """Which taps are 1, the others being 0, equal for all channels; zero between channels. None of any other kernel.

    Args:
        kernel: IOHW.
        groups: as of :func:`spread`.
    """
    if groups == 1 and kernel.shape[0] > 1:
        channels = kernel.shape[0]
        if kernel.shape[1] != channels or np.any(kernel[0, 1:]):  # which settles it for most
            return None
        numbers = np.arange(channels)
        diagonal = kernel[numbers, numbers]
        if np.count_nonzero(kernel) != np.count_nonzero(diagonal):
            return None
        kernel = diagonal[:, np.newaxis]
    if kernel.shape[1] != 1:
        return None
    ones: Array = kernel[0, 0] == 1
    same = np.array_equal(kernel, np.broadcast_to(ones.astype(kernel.dtype), kernel.shape))
    return ones if same else None
