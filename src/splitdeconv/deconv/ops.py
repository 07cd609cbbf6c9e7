"""A lowered deconv as a short program of ordinary operations, without weights and without any framework.

A :class:`Program` is a list of steps on numbered values: the inputs come first, ``x`` as value 0, then the result of
each step; the last value is the output. Each operation knows its output shape, its multiply-accumulates and the
elements that it reads and writes.
Sizes may be unknown (None): no operation's parameters depend on them. ``NCHW`` and ``NHWC`` stand for channels-first
and channels-last at any number of spatial axes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.phases import Taps
from splitdeconv.deconv.spec import Axis, Deconv

Layout = Literal["NCHW", "NHWC"]
Order = Literal["block_major", "channel_major"]
Size = int | None
Shape = tuple[Size, ...]


def channel_axis(layout: Layout, rank: int) -> int:
    """Which axis of a tensor of ``rank`` axes holds the channels."""
    return 1 if layout == "NCHW" else rank - 1


def spatial_axes(layout: Layout, rank: int) -> range:
    """Which axes of a tensor of ``rank`` axes are spatial."""
    return range(2, rank) if layout == "NCHW" else range(1, rank - 1)


def plus(size: Size, more: int) -> Size:
    """``size + more``, unknown if ``size`` is."""
    return None if size is None else size + more


def elements(shape: Shape) -> int:
    """Number of elements of a shape; an unknown size counts as 1."""
    return math.prod(1 if size is None else size for size in shape)


@dataclass(frozen=True, slots=True)
class Op(ABC):
    """One operation. The base class is what pure data movement costs: no arithmetic, all read once and written once."""

    @abstractmethod
    def shape(self, *inputs: Shape) -> Shape:
        """Output shape for the given input shapes."""

    def macs(self, *inputs: Shape) -> int:
        """Multiply-accumulates, those with zero-filled taps and padding included; unknown sizes count as 1."""
        return 0

    def moved(self, *inputs: Shape) -> int:
        """Elements of maps read and written; weights are not counted."""
        return sum(elements(shape) for shape in inputs) + elements(self.shape(*inputs))


@dataclass(frozen=True, slots=True)
class NativeDeconv(Op):
    """The runtime's own ``deconv``, input and output in ``layout``, as the model has it; or ``simplified``.

    That is with its crop in its pads, and without zeros between channels; of a written-out deconv, one transposed
    convolution instead of the model's nodes.
    """

    deconv: Deconv
    layout: Layout
    simplified: bool = False

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        shape[channel_axis(self.layout, len(shape))] = self.deconv.out_channels
        spatial = spatial_axes(self.layout, len(shape))
        shape[spatial.start : spatial.stop] = self.deconv.out_sizes_of([shape[axis] for axis in spatial])
        return tuple(shape)

    def macs(self, *inputs: Shape) -> int:
        if self.deconv.written_out is not None and not self.simplified:
            return self.deconv.native_macs()
        return elements(inputs[0]) * math.prod(self.deconv.kernel_shape[1:])


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """``begin`` zeros (in quantised programs: zero-points) before each axis and ``end`` after it; all at least 0."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(plus(n, b + e) for n, b, e in zip(inputs[0], self.begin, self.end, strict=True))


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Cut ``begin`` elements from the start and ``end`` elements from the end of each axis."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(plus(n, -b - e) for n, b, e in zip(inputs[0], self.begin, self.end, strict=True))

    def moved(self, *inputs: Shape) -> int:
        return 2 * elements(self.shape(*inputs))


@dataclass(frozen=True, slots=True)
class Dim:
    """One size of a :class:`Reshape`: ``times`` alone, or ``times/over`` of the input's size at ``axis``."""

    times: int
    axis: int | None = None
    over: int = 1

    def size(self, source: Shape) -> Size:
        """The size for a given input shape."""
        if self.axis is None:
            return self.times
        known = source[self.axis]
        return None if known is None else known * self.times // self.over


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The shape ``dims`` for the same elements in the same order."""

    dims: tuple[Dim, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(dim.size(inputs[0]) for dim in self.dims)

    def moved(self, *inputs: Shape) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Axes in another order; ``perm[n]`` is the input axis that becomes axis ``n``."""

    perm: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(inputs[0][axis] for axis in self.perm)


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Inputs one after the other along ``axis``."""

    axis: int

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        sizes = [source[self.axis] for source in inputs]
        shape[self.axis] = None if None in sizes else sum(size for size in sizes if size is not None)
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class Take(Op):
    """For each place the sum of the rows of axis 0 that it names, zeros where it names none; of kernels only.

    Attributes:
        places: numbers of rows.
        sizes: of the axes that the places are on, row-major.
    """

    places: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        return (*self.sizes, *inputs[0][1:])


@dataclass(frozen=True, slots=True)
class Part(Op):
    """Piece ``index`` of ``parts`` equal pieces along ``axis``; a format may write all as one operator."""

    axis: int
    index: int
    parts: int

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        size = shape[self.axis]
        shape[self.axis] = None if size is None else size // self.parts
        return tuple(shape)

    def moved(self, *inputs: Shape) -> int:
        return 2 * elements(self.shape(*inputs))


@dataclass(frozen=True, slots=True)
class Relayout(Op):
    """Changes nothing; a compiler may choose anew how its output lies in memory."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True, slots=True)
class DepthToSpace(Op):
    """Channels to two spatial axes, each ``block`` times as long, in ``layout``.

    The order ``block_major`` is ONNX's DCR and TFLite's, ``channel_major`` ONNX's CRD.
    """

    block: int
    order: Order
    layout: Layout

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        channel = channel_axis(self.layout, 4)
        depth = shape[channel]
        assert depth is not None, "channels are always known"
        shape[channel] = depth // self.block**2
        for axis in spatial_axes(self.layout, 4):
            size = shape[axis]
            shape[axis] = None if size is None else size * self.block
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class Repeat(Op):
    """Each element ``factors`` times along each axis, one beside the other (nearest upsampling)."""

    factors: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        sizes = zip(inputs[0], self.factors, strict=True)
        return tuple(None if size is None else size * factor for size, factor in sizes)


@dataclass(frozen=True, slots=True)
class Interpolate(Op):
    """A map in ``layout`` by the weights of ``how``."""

    how: Interpolation
    layout: Layout

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        spatial = spatial_axes(self.layout, len(shape))
        shape[spatial.start : spatial.stop] = self.how.out_sizes([shape[axis] for axis in spatial])
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class Add(Op):
    """Element-wise sum of two values of equal rank; a size of 1 is repeated to the other's."""

    def shape(self, *inputs: Shape) -> Shape:
        one, other = inputs
        return tuple(b if a == 1 else a for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class Difference(Op):
    """``x[i] − x[i−1]`` along ``axis`` of a map in ``layout``, one more than it has pixels; outside there are zeros."""

    axis: int
    layout: Layout

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        shape[self.axis] = plus(shape[self.axis], 1)
        return tuple(shape)


@dataclass(frozen=True, slots=True)
class AddBias(Op):
    """Add the deconv's bias to its complete output, which lies in ``layout``."""

    layout: Layout

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Conv(Op):
    """A stride-1 convolution (cross-correlation) whose filter is named by taps of the model's own filter.

    Attributes:
        layout: of input and output.
        blocks: for each block of output channels, the original tap at each place of each axis (None: zero), or the
            run of taps that is summed there.
            Every block has all output channels of the deconv.
        order: of the output channels: blocks of channels, or channels of blocks. Inside a group in both cases.
        in_channels, out_channels, groups, has_bias: of the deconv; the convolution has
            ``len(blocks)·out_channels`` outputs.
        dilations, pad_begin, pad_end: for each spatial axis; pads are at least 0.
        first_row: of the model's own kernel, that its filter is made of: others than the first where several maps are
            read, whose convolutions have channels and groups of their own.
        flat: whether it is a matrix product over all pixels where the format has one: one tap, no pads, no groups.
    """

    layout: Layout
    blocks: tuple[tuple[Taps, ...], ...]
    order: Order
    in_channels: int
    out_channels: int
    groups: int
    has_bias: bool
    dilations: tuple[int, ...]
    pad_begin: tuple[int, ...]
    pad_end: tuple[int, ...]
    first_row: int = 0
    flat: bool = False

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel size of each spatial axis."""
        return tuple(len(taps) for taps in self.blocks[0])

    @property
    def total_channels(self) -> int:
        """Output channels of the convolution."""
        return len(self.blocks) * self.out_channels

    @property
    def filter_shape(self) -> tuple[int, ...]:
        """Shape of the filter, OIHW: ``(total_channels, in_channels // groups, *kernel)``."""
        return (self.total_channels, self.in_channels // self.groups, *self.kernel)

    def shape(self, *inputs: Shape) -> Shape:
        shape = list(inputs[0])
        shape[channel_axis(self.layout, len(shape))] = self.total_channels
        for number, axis in enumerate(spatial_axes(self.layout, len(shape))):
            grown = self.pad_begin[number] + self.pad_end[number]
            shape[axis] = plus(shape[axis], grown - (self.kernel[number] - 1) * self.dilations[number])
        return tuple(shape)

    def macs(self, *inputs: Shape) -> int:
        return elements(self.shape(*inputs)) * math.prod(self.filter_shape[1:])


@dataclass(frozen=True, slots=True)
class Spread(Op):
    """One axis of a separable deconv as a product with a banded matrix, ``(input size, output size)``.

    Attributes:
        number: of the spatial axis, whose vector fills the matrix.
        axis: its geometry, of open size.
        at: where the axis lies in the value, the last place or the one before.
    """

    number: int
    axis: Axis
    at: int

    def shape(self, *inputs: Shape) -> Shape:
        size = inputs[0][self.at]
        spread = None if size is None else self.axis.out_size_of(size)
        return (*inputs[0][: self.at], spread, *inputs[0][self.at + 1 :])

    def macs(self, *inputs: Shape) -> int:
        return elements(self.shape(*inputs)) * (inputs[0][self.at] or 1)
