"""Leave the deconv to the runtime."""

from __future__ import annotations

from splitdeconv.deconv.ops import Add, Layout, NativeDeconv, Repeat, spatial_axes
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, Window
from splitdeconv.deconv.written import beside_shape, goes_before, own_pads, without_beside
from splitdeconv.lowerings.candidate import COMPOSITE, Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering
from splitdeconv.lowerings.zero_insert import insert_zeros


class Native(Lowering):
    """The runtime's own deconv, as the model has it.

    Before: ConvTranspose, maybe with a crop behind it, or dense although its filter is zero between channels; or a
    convolution behind an upsampling or inserted zeros.
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
        return (plain, Candidate(self.name, "simplified")) if deconv.crop or deconv.diagonal else (plain,)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        further = [beside_shape(deconv, layout)] if deconv.written_out and deconv.written_out.beside else []
        build = Builder(deconv, layout, further)
        return build.program(build.add(NativeDeconv(deconv, layout, bool(candidate.window)), build.x, *build.inputs))


def as_written(deconv: Deconv, layout: Layout) -> Program:
    """A written-out deconv in its plainest form: the stretched map, and the model's convolution.

    Before: ``(N, I, *sizes)``.
    After: Repeat, or zeros between the pixels, ``(N, I, *(s·sizes))``; Conv ``(N, C, *out_sizes)``.
    """
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    if written.beside:
        return with_beside(as_written(without_beside(deconv), layout), deconv)
    build = Builder(deconv, layout)
    behind = [stride - 1 if written.stretch == "zeros" else 0 for stride in deconv.strides]
    pads = [(begin, end - more) for (begin, end), more in zip(own_pads(deconv), behind, strict=True)]
    sizes = zip(written.kernel, written.dilations, pads, strict=True)
    windows = [Window((tuple(range(kernel)),), dilation, *pad) for kernel, dilation, pad in sizes]
    stretched = insert_zeros(build) if written.stretch == "zeros" else repeat(build, build.x)
    return build.program(build.convolve_by(stretched, windows, "block_major", bias=deconv.has_bias))


def with_beside(program: Program, deconv: Deconv) -> Program:
    """The sum of a program and of the convolution of the map beside the stretched one.

    Before: Conv of the concatenation of the stretched map and another, ``(N, beside, *sizes)``.
    After: the program of the stretched map; Conv of the other; Add. A convolution is linear in its input channels.
    """
    written = deconv.written_out
    assert written is not None, "only stretched maps have one beside them"
    build = Builder(deconv, program.layout, [beside_shape(deconv, program.layout)])
    values = [build.x]
    for step in program.steps:
        values.append(build.add(step.op, *(values[value] for value in step.inputs)))
    sizes = zip(written.kernel, written.dilations, own_pads(deconv), strict=True)
    windows = [Window((tuple(range(kernel)),), dilation, *pads) for kernel, dilation, pads in sizes]
    other = build.convolve_by(build.inputs[0], windows, "block_major", bias=False, beside=True)
    return build.program(build.add(Add(), values[-1], other))


def repeat(build: Builder, value: int) -> int:
    """Each pixel of ``value`` as many times as the deconv's strides say; no step where these are 1."""
    factors = [1] * build.rank(value)
    for axis, stride in zip(spatial_axes(build.layout, len(factors)), build.deconv.strides, strict=True):
        factors[axis] = stride
    return build.add(Repeat(tuple(factors)), value) if max(factors) > 1 else value
