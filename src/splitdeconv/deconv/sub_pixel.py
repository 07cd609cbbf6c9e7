"""A convolution whose channels are the phases of a finer map, as the deconv that it is.

Before: a convolution of stride 1 with ``Πs`` times as many channels, then an order of them as pixels (DepthToSpace).
After: a deconv of stride ``s`` whose kernel has ``s·((K − 1)·d + 1)`` taps on each axis: tap ``r + s·d·(K − 1 − k)`` is
tap ``k`` of phase ``r``; where the convolution is dilated, the others are 0. It is the inverse of the split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array

_LARGEST = 2**24  # elements of a map that are followed
_ANY_SIZE = 2  # of an open one

LONGEST = 8  # operators between the convolution and the finer map
QUANTISED = "is quantised: its weights would be stored in another order"
OTHER_TYPE = "has weights of {}, in place of which others would be stored"
SAME_NAME = "its name is that of another convolution"
COMPUTED_BIAS = "its bias is computed at run time"
REORDERED = "the new kernel has its weights in another order, and the file does not hold them as they were"


@dataclass(frozen=True, slots=True)
class SubPixel:
    """The geometry; one entry for each spatial axis, but for the channels.

    Attributes:
        kernel, dilations, pads: of the convolution; pads as begin and end.
        factors: places of the finer map for each of the coarse one.
        groups: of the convolution.
        in_channels: of its map.
        channels: which of its output channels is which phase of which channel of the finer map: channel by channel,
            the phases in the order of the axes.
    """

    kernel: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    factors: tuple[int, ...]
    groups: int
    in_channels: int
    channels: tuple[int, ...]

    @property
    def phases(self) -> int:
        """How many convolution channels make one of the finer map."""
        return math.prod(self.factors)

    @property
    def out_channels(self) -> int:
        """Of the finer map."""
        return len(self.channels) // self.phases

    def refuse(self) -> str | None:
        """Why no deconv computes it, or None."""
        for kernel, dilation, pads in zip(self.kernel, self.dilations, self.pads, strict=True):
            if not all(0 <= pad <= (kernel - 1) * dilation for pad in pads):
                return "its pads are wider than its kernel, and a ConvTranspose has no negative ones"
        if self.groups == 1:
            return None
        of_group = len(self.channels) // self.groups
        each, rest = divmod(self.out_channels, self.groups)
        owners = [channel // of_group for channel in self.channels]
        wanted = [place // self.phases // max(1, each) for place in range(len(self.channels))]
        return "the phases of a channel come from several groups" if rest or owners != wanted else None

    def deconv(self, batch: int | None, sizes: tuple[int | None, ...], dtype: str) -> Deconv:
        """The deconv, without a bias, over maps of these sizes."""
        axes = []
        numbers = zip(self.kernel, self.dilations, self.pads, self.factors, sizes, strict=True)
        for kernel, dilation, (begin, end), factor, size in numbers:
            reach = (kernel - 1) * dilation
            pads = factor * (reach - begin), factor * (reach - end)
            axes.append(Axis(factor * (reach + 1), factor, 1, *pads, 0, size))
        return Deconv(tuple(axes), self.in_channels, self.out_channels, self.groups, batch, dtype)

    def deconv_kernel(self, own: Array) -> Array:
        """The convolution's kernel OIHW as that of the deconv, IOHW."""
        rank, per_group = len(self.kernel), own.shape[1]
        picked = own[list(self.channels)].reshape(self.out_channels, *self.factors, per_group, *self.kernel)
        extents = [(kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilations, strict=True)]
        spread = np.zeros((*picked.shape[: rank + 2], *extents), own.dtype)
        places = tuple(slice(None, None, -dilation) for dilation in self.dilations)  # from the last tap on
        spread[(slice(None),) * (rank + 2) + places] = picked
        axes = [axis for number in range(rank) for axis in (rank + 2 + number, 1 + number)]
        taps = [extent * factor for extent, factor in zip(extents, self.factors, strict=True)]
        turned = spread.transpose(0, rank + 1, *axes).reshape(self.groups, -1, per_group, *taps)
        swapped = np.swapaxes(turned, 1, 2)
        return np.ascontiguousarray(swapped.reshape(self.in_channels, -1, *taps))

    def split_bias(self, bias: Array | None) -> tuple[Array | None, Array | None]:
        """The convolution's bias as the deconv's, or as ``(out_channels, *factors)`` where phases have their own."""
        if bias is None:
            return None, None
        flat = bias[list(self.channels)].reshape(self.out_channels, -1)
        if (flat == flat[:, :1]).all():
            return np.ascontiguousarray(flat[:, 0]), None
        return None, flat.reshape(self.out_channels, *self.factors)


def finer(index: Array, coarse: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and factors of :class:`SubPixel`, if some order of a coarse map's elements is a finer one; else nothing.

    Args:
        index: for each place ``(N, C, *sizes)`` the number of an element, row-major.
        coarse: shape of their map, ``(N, C, *sizes)``.
    """
    batch, _, *sizes = coarse
    if index.ndim != len(coarse) or index.shape[0] != batch:
        return (), ()
    if any(fine % size for fine, size in zip(index.shape[2:], sizes, strict=True)):
        return (), ()
    factors = tuple(fine // size for fine, size in zip(index.shape[2:], sizes, strict=True))
    if max(factors) == 1:
        return (), ()
    pairs = [each for pair in zip(sizes, factors, strict=True) for each in pair]
    split = index.reshape(batch, index.shape[1], *pairs)
    order = [*range(3, split.ndim, 2), *range(2, split.ndim, 2)]  # phases, then sizes
    phased = split.transpose(0, 1, *order).reshape(batch, -1, math.prod(sizes))
    channels = phased[0, :, 0] // phased.shape[2]
    whole = np.arange(phased.size).reshape(batch, -1, phased.shape[2])
    if sorted(channels) != list(range(len(channels))) or not np.array_equal(phased, whole[:, channels]):
        return (), ()
    return tuple(int(each) for each in channels), factors


def numbered(shape: tuple[int | None, ...]) -> Array | None:
    """The numbers of the elements of a map ``(N, C, *sizes)`` for :func:`finer`; None where that is too large.

    Open sizes are taken to be small: what is followed does the same to all.
    """
    known = tuple(1 if axis == 0 and size is None else size or _ANY_SIZE for axis, size in enumerate(shape))
    if math.prod(known) > _LARGEST:
        return None
    return np.arange(math.prod(known), dtype=np.int64).reshape(known)


def define_sub_pixel(x: Array, kernel: Array, bias: Array | None, spec: SubPixel) -> Array:
    """The definition: the convolution, then each phase in its place.

    Args:
        x: ``(N, in_channels, *sizes)``.
        kernel, bias: of the convolution, OIHW.
        spec: the geometry.

    Returns:
        ``(N, out_channels, *finer sizes)``.
    """
    y = reference.convolution(x, kernel, spec.pads, spec.dilations, spec.groups)
    y = y if bias is None else y + bias.reshape(1, -1, *(1,) * len(spec.kernel))
    rank, sizes = len(spec.kernel), y.shape[2:]
    phased = y[:, list(spec.channels)].reshape(len(y), spec.out_channels, *spec.factors, *sizes)
    order = [axis for number in range(rank) for axis in (2 + rank + number, 2 + number)]
    finer = [size * factor for size, factor in zip(sizes, spec.factors, strict=True)]
    return np.asarray(phased.transpose(0, 1, *order).reshape(len(y), spec.out_channels, *finer))
