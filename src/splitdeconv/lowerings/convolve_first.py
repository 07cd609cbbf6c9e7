"""A convolution behind an upsampling, done before it where all copies of a pixel meet the same taps, or it is 1×1."""

from __future__ import annotations

from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.phases import Window
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import aligned_shift, goes_before, own_pads
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering
from splitdeconv.lowerings.native import enlarge


class ConvolveFirst(Lowering):
    """The convolution on the small map, its result repeated and cropped.

    Before: nearest upsampling by ``s``, then a convolution whose dilation is a multiple ``m·s``, or whose kernel is 1;
    or an interpolation, then one whose kernel is 1.
    After: Conv with dilation ``m``, ``(N, C, *Q)``; Repeat ``(N, C, *(Q·s))``; Slice. Or Conv; Interpolate.
    Source: this project. No weights are summed, so it is exact in every type behind a nearest upsampling; the weights
    of an interpolation round in another order.
    """

    name = "convolve_first"
    source = "splitdeconv"
    summary = "a 1×1 convolution, or one whose dilation is a multiple of the upsampling's factor, before the upsampling"
    only_written_out = True

    def refuse(self, deconv: Deconv) -> str | None:
        if goes_before(deconv):
            return None
        return "only of an upsampling whose copies of a pixel all meet the same taps does the convolution come first"

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        shifts = [aligned_shift(deconv, number) for number in range(len(deconv.axes))]
        windows = [_window(deconv, number, shift) for number, shift in enumerate(shifts)]
        small = build.convolve_by(build.x, windows, "block_major", bias=deconv.has_bias)
        return build.program(build.crop_output(enlarge(build, small), shifts))


def _window(deconv: Deconv, number: int, shift: int) -> Window:
    """The model's taps on the small map, over every block of the output."""
    axis, written = deconv.axes[number], deconv.written_out
    assert written is not None, "refused otherwise"
    kernel = written.kernel[number]
    dilation = 1 if kernel == 1 else written.dilations[number] // axis.stride
    begin = (own_pads(deconv)[number][0] + shift) // axis.stride
    return Window((tuple(range(kernel)),), dilation, begin, axis.rows(shift) - begin + (kernel - 1) * dilation)
