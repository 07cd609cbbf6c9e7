"""The convolution of least work: the limit of what a rewriting can gain.

It reads the same map, has as many products and the same output to write, and nothing to rearrange. It is timed and
never offered, because it computes something else.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

from splitdeconv.deconv.ops import Concat, Dim, Layout, Order, Reshape, spatial_axes
from splitdeconv.deconv.phases import Phase, Window
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.written import in_original_taps, without_beside
from splitdeconv.lowerings.beside import with_beside
from splitdeconv.lowerings.lowering import Builder

NAME = "equal_work"


def least_work(deconv: Deconv, layout: Layout, quant: str = "") -> Program:
    """Convolutions with exactly the taps that the phases have, and one reshape in place of the rearrangement.

    Phases with equally many taps share a convolution, so where the stride divides the kernel there is one. Behind an
    upsampling the differences of pixels need the convolution's own taps only, dealt out among the phases.

    Args:
        deconv, layout: of the program.
        quant: form of a quantised convolution, or empty.
    """
    if deconv.written_out and deconv.written_out.beside:
        whole = with_beside(least_work(without_beside(deconv), layout), deconv)
        return replace(whole, name=NAME, quant=quant)
    build = Builder(deconv, layout)
    order: Order = "channel_major" if deconv.groups > 1 else "block_major"
    written = deconv.written_out
    windows = _by_taps(deconv) if written is None or written.stretch == "zeros" else _dealt_out(deconv)
    maps = [build.convolve_by(build.x, each, order, bias=deconv.has_bias) for each in windows]
    value = maps[0] if len(maps) == 1 else build.add(Concat(build.channels), *maps)
    if max(deconv.strides) > 1:
        value = build.add(_enlarged(build), value)
    program = build.program(build.crop_output(value, [0] * len(deconv.axes)))
    return replace(program, name=NAME, quant=quant)


def _enlarged(build: Builder) -> Reshape:
    """The output's shape, in the order in which the elements are."""
    deconv = build.deconv
    rank = len(deconv.axes) + 2
    axes = spatial_axes(build.layout, rank)
    dims = [Dim(deconv.out_channels)] * rank
    dims[0] = Dim(1, axis=0)
    for axis, stride in zip(axes, deconv.strides, strict=True):
        dims[axis] = Dim(stride, axis=axis)
    return Reshape(tuple(dims))


def _by_taps(deconv: Deconv) -> list[list[Window]]:
    """The windows of one convolution for all phases with equally many taps on each axis."""
    each = [
        [in_original_taps(deconv, number, window) for window in _windows(axis)]
        for number, axis in enumerate(deconv.axes)
    ]
    return [list(windows) for windows in product(*each)]


def _windows(axis: Axis) -> list[Window]:
    """Phases of one axis with equally many taps, as if they read the same pixels."""
    by_count: dict[int, list[Phase]] = {}
    for phase in axis.phases():
        by_count.setdefault(len(phase.taps), []).append(phase)
    return [
        Window(
            tuple(each.taps or (None,) for each in phases), phases[0].dilation, phases[0].pad_begin, phases[0].pad_end
        )
        for phases in by_count.values()
    ]


def _dealt_out(deconv: Deconv) -> list[list[Window]]:
    """The taps of the convolution behind an upsampling, in rows along the last axis; one for a phase at least."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    taps, phases = prod(written.kernel), prod(deconv.strides)
    fewer, more = divmod(max(taps, phases), phases)
    counts = {fewer: phases - more, fewer + 1: more}
    axes = [(axis, number == len(deconv.axes) - 1) for number, axis in enumerate(deconv.axes)]
    return [
        [_row(axis, taps if last else 1, blocks if last else 1) for axis, last in axes]
        for taps, blocks in counts.items()
        if blocks
    ]


def _row(axis: Axis, taps: int, blocks: int) -> Window:
    """A window of so many taps with as many outputs as a phase has."""
    phase = axis.phases()[0]
    surplus = phase.pad_begin + phase.pad_end - (len(phase.taps) - 1) * phase.dilation
    return Window(((0,) * taps,) * blocks, 1, (taps - 1) // 2, taps // 2 + surplus)
