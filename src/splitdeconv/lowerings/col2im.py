"""Overlap-add: every input times every tap first, then the sums (the inverse short-time Fourier transform's shape)."""

from __future__ import annotations

from itertools import product
from math import prod

from splitdeconv.deconv.ops import Add, AddBias, Conv, Layout, Order, spatial_axes
from splitdeconv.deconv.phases import Taps
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.written import original_taps
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering, too_many
from splitdeconv.lowerings.rearrange import from_channels, merged_forms


class Col2Im(Lowering):
    """A 1×1 convolution with an output for every tap, then shifted sums, then channels to space.

    Before: deconv ``(N, I, *sizes)`` → ``(N, C, *out_sizes)``; ``T = ceil(K/s)`` on each axis.
    After: Conv ``(N, prod(T·s)·C, *sizes)``; ``prod(T)`` slices of its channels, each padded to ``sizes + T − 1``
    and added; rearrangement; Slice; bias.
    Source: the GEMM + col2im form of most runtimes.
    """

    name = "col2im"
    source = "GEMM + col2im, as in most runtimes"
    summary = "one 1×1 convolution with an output per tap, then overlap-add (float only)"
    rank = 2

    def refuse(self, deconv: Deconv) -> str | None:
        if deconv.quant is not None:
            return "col2im adds partial sums, which would requantise twice: not for quantised layers"
        if deconv.groups > 1:
            return "col2im cuts the channels by tap, which groups do not allow"
        if any(axis.dilation > 1 and axis.kernel > 1 for axis in deconv.axes):
            return "col2im here has no dilation: taps would not fall into runs of one stride"
        if any(axis.pad_begin < 0 or axis.pad_end < 0 for axis in deconv.axes):
            return "a negative pad adds outputs that no product belongs to"
        if all(axis.kernel <= axis.stride for axis in deconv.axes):
            return "no two taps overlap, so there is nothing to add: split already is this"
        return too_many(prod(_runs(deconv)), "shifted sums")

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        return tuple(Candidate(self.name, form=form) for form in merged_forms(deconv, layout) if form != "two_steps")

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        order: Order = "block_major"
        build = Builder(deconv, layout)
        shifts = list(product(*(range(count) for count in _runs(deconv))))
        blocks = tuple(block for shift in shifts for block in _run_blocks(deconv, shift))
        products = build.add(_pointwise(deconv, layout, blocks), build.x)
        total = _overlap_add(build, products, shifts, [_reach(axis) for axis in deconv.axes])
        whole = from_channels(build, total, order, candidate.form)
        value = _crop(build, whole)
        return build.program(build.add(AddBias(layout), value) if deconv.has_bias else value)


def _runs(deconv: Deconv) -> list[int]:
    """How many runs of one stride the kernel of each axis has."""
    return [-(-axis.kernel // axis.stride) for axis in deconv.axes]


def _run_blocks(deconv: Deconv, shift: tuple[int, ...]) -> list[tuple[Taps, ...]]:
    """For one shift, the single-tap blocks of all phases, row-major."""
    taps = [
        [original_taps(deconv, place, _tap(axis, number * axis.stride + phase)) for phase in range(axis.stride)]
        for place, (axis, number) in enumerate(zip(deconv.axes, shift, strict=True))
    ]
    return list(product(*taps))


def _tap(axis: Axis, number: int) -> Taps:
    return (number if number < axis.kernel else None,)


def _reach(axis: Axis) -> int:
    """How many rows of phases the output has more than the input."""
    return max(-(-axis.kernel // axis.stride) - 1, axis.rows(axis.pad_begin))


def _pointwise(deconv: Deconv, layout: Layout, blocks: tuple[tuple[Taps, ...], ...]) -> Conv:
    ones, none = (1,) * len(deconv.axes), (0,) * len(deconv.axes)
    channels = deconv.in_channels, deconv.out_channels
    return Conv(layout, blocks, "block_major", *channels, 1, False, ones, none, none, deconv.first_row)


def _overlap_add(build: Builder, products: int, shifts: list[tuple[int, ...]], reach: list[int]) -> int:
    """Cut the products by shift, move each cut by its shift, and add them."""
    axes = spatial_axes(build.layout, build.rank(products))
    width = build.channel_count(products) // len(shifts)
    total = None
    for number, shift in enumerate(shifts):
        before, behind = number * width, (len(shifts) - 1 - number) * width
        cut = build.crop(products, [build.channels], [before], [behind])
        moved = build.pad(cut, axes, shift, [r - first for r, first in zip(reach, shift, strict=True)])
        total = moved if total is None else build.add(Add(), total, moved)
    assert total is not None, "there is at least one shift"
    return total


def _crop(build: Builder, value: int) -> int:
    """Cut the pads off."""
    axes = build.deconv.axes
    begin = [axis.pad_begin for axis in axes]
    end = [(_reach(axis) + 1) * axis.stride - axis.pad_begin - axis.tail for axis in axes]
    return build.crop(value, spatial_axes(build.layout, build.rank(value)), begin, end)
