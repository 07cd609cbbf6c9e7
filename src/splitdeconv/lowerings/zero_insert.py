"""Zero insertion, the paper's baseline (NZP)."""

from __future__ import annotations

from math import prod

from splitdeconv.deconv.ops import Dim, Layout, Reshape, spatial_axes
from splitdeconv.deconv.phases import Window
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering

# Times the definition's work; stride 16 on two axes. At an STFT's stride of 1024 a single run, which no budget can cut
# short, takes most of a minute (859 G multiply-accumulates, two processors).
MOST_WORK = 256


class ZeroInsert(Lowering):
    """One convolution with the flipped filter, over the input with stride − 1 zeros between its pixels.

    Before: deconv of ``(N, C, H, W)``.
    After: Reshape ``(N, C, H, 1, W, 1)``, Pad ``(N, C, H, s, W, s)``, Reshape ``(N, C, H·s, W·s)``, Conv.
    Source: the paper, section 2 (naive zero padding).
    """

    name = "zero_insert"
    source = "arXiv 1907.01773, NZP"
    summary = "zeros between the input's pixels, then one convolution (the paper's baseline)"
    rank = 1
    inserts_zeros = True

    def refuse(self, deconv: Deconv) -> str | None:
        times = prod(deconv.strides)
        if times > MOST_WORK:
            return f"would take {times} times the multiply-accumulates of the definition, more than {MOST_WORK}"
        return None

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        x = insert_zeros(build) if max(deconv.strides) > 1 else build.x
        return build.program(build.convolve(x, [_window(axis) for axis in deconv.axes], "block_major"))


def insert_zeros(build: Builder) -> int:
    """The input with zeros behind every pixel of each axis whose stride is above 1."""
    rank = build.rank(build.x)
    strides = dict(zip(spatial_axes(build.layout, rank), build.deconv.strides, strict=True))
    opened: list[Dim] = []
    closed: list[Dim] = []
    zeros: list[int] = []
    for axis in range(rank):
        stride = strides.get(axis, 1)
        closed.append(Dim(stride, axis=len(opened)))
        opened.append(Dim(1, axis=axis))
        zeros.append(0)
        if stride > 1:
            opened.append(Dim(1))
            zeros.append(stride - 1)
    value = build.add(Reshape(tuple(opened)), build.x)
    value = build.pad(value, range(len(zeros)), [0] * len(zeros), zeros)
    return build.add(Reshape(tuple(closed)), value)


def _window(axis: Axis) -> Window:
    """The flipped filter over the stretched input of ``in_size·stride`` pixels."""
    taps = tuple(reversed(range(axis.kernel)))
    pad_begin = axis.extent - 1 - axis.pad_begin
    pad_end = axis.extent - 1 + axis.tail - axis.stride - pad_begin
    return Window((taps,), axis.dilation, pad_begin, pad_end)
