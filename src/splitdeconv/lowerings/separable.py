"""Separable filters, such as bilinear upsampling: one matrix product for each axis."""

from __future__ import annotations

from splitdeconv.deconv.ops import AddBias, Layout, Spread, Transpose
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering

LARGEST = 2**20  # elements of one axis' matrix: 4 MB in float32


class Separable(Lowering):
    """A matrix product for each axis, the last one first. Channels-first only.

    Before: depthwise deconv ``(N, C, *sizes)`` → ``(N, C, *out_sizes)`` whose filter is, for all channels, the product
    of one vector for each axis.
    After: for each axis MatMul with a matrix ``(size, out_size)`` that has the vector in each row, a stride further to
    the right from one to the next. Most of it is zero, and runtimes multiply matrices so much faster than they spread
    pixels that this pays nevertheless.
    Source: this project.
    """

    name = "separable"
    source = "splitdeconv"
    summary = "a matrix product per axis, for filters such as bilinear upsampling"

    def refuse(self, deconv: Deconv) -> str | None:
        if "kernel" in deconv.run_time:
            return "its filter is computed at run time, so nothing is known of its structure"
        if not deconv.separable:
            return "its filter is not, for all channels, the product of one vector for each axis"
        if None in deconv.in_sizes:
            return "the input size is unknown, and the matrices depend on it"
        sizes = zip(deconv.in_sizes, deconv.out_sizes, strict=True)
        largest = max((before or 1) * (after or 1) for before, after in sizes)
        if largest > LARGEST:
            return f"a matrix would have {largest} elements, more than {LARGEST}"
        return None

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        return (Candidate(self.name),) if layout == "NCHW" else ()

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        value, rank = build.x, build.rank(build.x)
        for number in reversed(range(len(deconv.axes))):
            value = _spread(build, value, number, rank)
        return build.program(build.add(AddBias(layout), value) if deconv.has_bias else value)


def _spread(build: Builder, value: int, number: int, rank: int) -> int:
    """One axis; runtimes multiply matrices in the last two places, so an axis before them goes there and back."""
    axis, place = build.deconv.axes[number].with_in_size(None), number + 2
    if place >= rank - 2:
        return build.add(Spread(number, axis, place), value)
    there = (*(each for each in range(rank) if each != place), place)
    back = tuple(there.index(each) for each in range(rank))
    value = build.add(Spread(number, axis, rank - 1), build.add(Transpose(there), value))
    return build.add(Transpose(back), value)
