"""What a modelled processor is asked to do: convolutions with their zeros, and the movement of maps around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from splitdeconv.deconv.ops import Order
from splitdeconv.deconv.weights import Array


@dataclass(frozen=True, slots=True)
class Line:
    """One spatial axis of a convolution. Sizes are in pixels.

    Attributes:
        occupied: one byte for each input pixel with its pads, 1 where the map can be non-zero, 0 where it is zero by
            construction (padding, inserted zeros).
        kernel, stride, dilation: of the convolution.
        stored: input pixels that lie in memory, inserted zeros included, pads not.
    """

    occupied: bytes
    kernel: int
    stride: int = 1
    dilation: int = 1
    stored: int = 1

    @property
    def extent(self) -> int:
        """Size of the dilated kernel."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out_size(self) -> int:
        """Output pixels."""
        return (len(self.occupied) - self.extent) // self.stride + 1

    def live(self) -> Array:
        """Whether an output meets an occupied pixel at a tap; shape ``(kernel, out_size)``, booleans."""
        pixels = np.frombuffer(self.occupied, np.uint8)
        reads = np.arange(self.kernel)[:, None] * self.dilation + np.arange(self.out_size) * self.stride
        found: Array = pixels[reads] != 0
        return found


def dense_line(
    size: int, kernel: int, *, stride: int = 1, dilation: int = 1, pad_begin: int = 0, pad_end: int = 0
) -> Line:
    """A line over a map without inserted zeros; a negative pad crops the map."""
    occupied = bytes(0 <= pixel < size for pixel in range(-pad_begin, size + pad_end))
    return Line(occupied, kernel, stride, dilation, sum(occupied))


@dataclass(frozen=True, slots=True)
class FilterMask:
    """Where trained weights are not zero. Compared by identity: it is one layer's.

    Attributes:
        nonzero: booleans OIHW, ``(out_channels, in_channels // groups, *kernel)``.
    """

    nonzero: Array = field(repr=False)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution.

    Attributes:
        lines: the spatial axes, outermost first.
        in_channels, out_channels: over all groups.
        groups, batch: as usual.
        blocks: for each block of output channels (the phases of a merged split) and each axis, one byte per tap: 1
            where the filter has it. Empty: every tap is there.
        order: of the output channels inside a group, blocks of channels or channels of blocks.
        weights: the exact zeros of trained weights; they take the place of ``blocks``.
    """

    lines: tuple[Line, ...]
    in_channels: int
    out_channels: int
    groups: int = 1
    batch: int = 1
    blocks: tuple[tuple[bytes, ...], ...] = ()
    order: Order = "block_major"
    weights: FilterMask | None = None

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps on each axis."""
        return tuple(line.kernel for line in self.lines)

    @property
    def pixels(self) -> int:
        """Output pixels of one channel and one image."""
        return math.prod(line.out_size for line in self.lines)

    @property
    def out_elements(self) -> int:
        """Output elements of the whole batch."""
        return self.batch * self.out_channels * self.pixels

    @property
    def weight_elements(self) -> int:
        """Elements of the filter as it is stored, zeros included."""
        return self.out_channels * self.in_channels // self.groups * math.prod(self.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulates without any skipping."""
        return self.batch * self.pixels * self.weight_elements

    def mask(self) -> Array:
        """Where the filter is not zero by construction or training.

        Returns:
            Booleans ``(groups, out_channels // groups, in_channels // groups or 1, *kernel)``; 1 input channel
            stands for all where they are alike.
        """
        outs = self.out_channels // self.groups
        if self.weights is not None:
            nonzero = self.weights.nonzero
            found: Array = nonzero.reshape(self.groups, outs, *nonzero.shape[1:])
            return found
        if not self.blocks:
            return np.ones((self.groups, outs, 1, *self.kernel), bool)
        taps = np.stack([outer([np.frombuffer(axis, np.uint8) for axis in block]) for block in self.blocks]) != 0
        each = outs // len(self.blocks)
        rows = np.repeat(taps, each, axis=0) if self.order == "block_major" else np.concatenate([taps] * each)
        return np.broadcast_to(rows[None, :, None], (self.groups, outs, 1, *self.kernel))


def outer(vectors: list[Array]) -> Array:
    """The outer product of vectors, one axis for each."""
    product: Array = np.ones((), vectors[0].dtype)
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


@dataclass(frozen=True, slots=True)
class LayerWork:
    """Everything that one layer in one form asks of a processor. Counts are elements of maps.

    Attributes:
        convolutions: done for one tile of the input after the other, so that the input is fetched once for all.
        in_elements: of the input as the model has it.
        stretched_elements: of the input with inserted zeros; equal to ``in_elements`` where none are inserted.
        out_elements: of the output as the model has it (what is cropped is not in it).
        run_elements: contiguous output elements that one convolution writes; 0 where its rows are whole.
        moved_elements: reads and writes if the rearrangement and the crop are passes over the data.
        form: name of the form, for messages.
        needed_macs: products that the outputs need and that are not zero by construction or training, whatever the
            form; None: those of the convolutions.
    """

    convolutions: tuple[Convolution, ...]
    in_elements: int
    stretched_elements: int
    out_elements: int
    run_elements: int = 0
    moved_elements: int = 0
    form: str = "conv"
    needed_macs: int | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates without any skipping."""
        return sum(conv.macs for conv in self.convolutions)

    @property
    def weight_elements(self) -> int:
        """Elements of all filters."""
        return sum(conv.weight_elements for conv in self.convolutions)

    @property
    def computed_elements(self) -> int:
        """Output elements that the convolutions compute, those that are cropped included."""
        return sum(conv.out_elements for conv in self.convolutions)
