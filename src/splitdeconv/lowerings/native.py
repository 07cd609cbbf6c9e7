"""Leave the deconv to the runtime."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.deconv.ops import Concat, Interpolate, Layout, NativeDeconv, Repeat, spatial_axes
from splitdeconv.deconv.phases import Window
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WrittenOut
from splitdeconv.deconv.written import around_of, beside_pads, beside_shape, goes_before, whole_pads
from splitdeconv.lowerings.candidate import COMPOSITE, Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering
from splitdeconv.lowerings.zero_insert import insert_zeros


class Native(Lowering):
    """The runtime's own deconv, as the model has it.

    Before: ConvTranspose, maybe with a crop behind it, or dense although its filter is zero between channels; or an
    operator that the format does not define; or a convolution behind an upsampling or inserted zeros.
    After: the same nodes. Window ``simplified``: one depthwise or dense ConvTranspose with the crop in its pads. Window
    ``deconv``: one ConvTranspose with the filter that the upsampling and the convolution make together.
    """

    name = "native"
    source = "the runtime"
    summary = "the model's own nodes; or a runtime's own deconv in their place"
    rank = 3

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        plain = Candidate(self.name)
        if any(min(axis.pad_begin, axis.pad_end) < 0 for axis in deconv.axes):
            return (plain,)
        if deconv.written_out is not None:
            return (plain,) if goes_before(deconv) else (plain, COMPOSITE)
        simpler = deconv.crop or deconv.diagonal or deconv.custom
        return (plain, Candidate(self.name, "simplified")) if simpler else (plain,)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        further = [beside_shape(deconv, layout)] if deconv.written_out and deconv.written_out.beside else []
        build = Builder(deconv, layout, further)
        return build.program(build.add(NativeDeconv(deconv, layout, bool(candidate.window)), build.x, *build.inputs))


def as_written(deconv: Deconv, layout: Layout) -> Program:
    """A written-out deconv in its plainest form: the stretched map, and the model's convolution.

    Before: ``(N, I, *sizes)``.
    After: Repeat, zeros between the pixels, or Interpolate, ``(N, I, *(s·sizes))``; [Concat with the map beside it];
    Conv ``(N, C, *out_sizes)``.
    """
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    build = Builder(deconv, layout, [beside_shape(deconv, layout)] if written.beside else [])
    behind = [stride - 1 if written.stretch == "zeros" else 0 for stride in deconv.strides]
    value = insert_zeros(build) if written.stretch == "zeros" else enlarge(build, build.x)
    if written.beside:
        value = build.resize(value, [(b, e - more) for (b, e), more in zip(around_of(deconv), behind, strict=True)])
        value, pads = build.add(Concat(build.channels), *_in_order(build, value, written)), beside_pads(deconv)
    else:
        pads = whole_pads(deconv)
    windows = own_windows(written, pads)
    return build.program(build.convolve_by(value, windows, "block_major", bias=deconv.has_bias, first_row=0))


def _in_order(build: Builder, stretched: int, written: WrittenOut) -> list[int]:
    """The maps that the convolution reads, in the order of its kernel's rows."""
    (beside,), before = build.inputs, written.before
    if before in (0, written.beside):
        return [beside, stretched] if before else [stretched, beside]
    first = build.crop(beside, [build.channels], [0], [written.beside - before])
    return [first, stretched, build.crop(beside, [build.channels], [before], [0])]


def own_windows(written: WrittenOut, pads: Sequence[tuple[int, int]]) -> list[Window]:
    """The model's own convolution, with ``pads`` around its input."""
    sizes = zip(written.kernel, written.dilations, pads, strict=True)
    return [Window((tuple(range(kernel)),), dilation, *pad) for kernel, dilation, pad in sizes]


def enlarge(build: Builder, value: int) -> int:
    """``value`` interpolated as the deconv's map is; or each pixel as many times as the strides say.

    No step where these are 1.
    """
    written = build.deconv.written_out
    if written is not None and written.interpolation is not None:
        return build.add(Interpolate(written.interpolation, build.layout), value)
    factors = [1] * build.rank(value)
    for axis, stride in zip(spatial_axes(build.layout, len(factors)), build.deconv.strides, strict=True):
        factors[axis] = stride
    return build.add(Repeat(tuple(factors)), value) if max(factors) > 1 else value
