"""From a lowered deconv, or one that hardware runs as it is, to the work that it means for a processor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from splitdeconv.accelerator.sparsity import useful_macs
from splitdeconv.accelerator.work import Convolution, FilterMask, LayerWork, Line, dense_line
from splitdeconv.deconv.ops import (
    Add,
    Concat,
    Conv,
    DepthToSpace,
    NativeDeconv,
    Op,
    Pad,
    Reshape,
    Slice,
    Spread,
    Transpose,
    elements,
    spatial_axes,
)
from splitdeconv.deconv.phases import Phase, Taps, Window, merge
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, conv_filter, swapped_channels, taken_taps

UNKNOWN_SIZE = "the input size is unknown, and cycles depend on it: give the sizes"
Sized = tuple[int, ...]


def refuse(program: Program, deconv: str = "none") -> str | None:
    """Why a modelled processor cannot be asked to do ``program``, or None; ``deconv`` is how it runs one itself."""
    if program.deconv.written_out is not None:
        return "the modelled processors know no sums of filters, and no upsampling in front of a convolution"
    operators = {type(step.op) for step in program.steps}
    if NativeDeconv in operators and deconv == "none":
        return "the processor has no deconv of its own"
    if Add in operators:
        return "overlap-add needs a vector unit for partial sums, which the modelled processors do not have"
    if Spread in operators:
        return "its matrices stand on the left of maps, which the modelled processors do not count"
    if None in program.deconv.in_sizes:
        return UNKNOWN_SIZE
    return None


def program_work(program: Program, kernel: Array | None = None, form: str = "") -> LayerWork:
    """The work of a program that :func:`refuse` does not refuse.

    Args:
        program: a lowered deconv with known sizes.
        kernel: where the deconv's trained weights are not zero, booleans IOHW; None if that is not known.
        form: name for messages.
    """
    shapes = program.shapes((1, *(1 if size is None else size for size in program.in_shape[1:])))
    masks = _trace(program)
    batch = program.deconv.batch or 1
    convolutions = tuple(
        _convolution(step.op, masks[step.inputs[0]], batch, kernel)
        for step in program.steps
        if isinstance(step.op, Conv)
    )
    stretched = max(mask.size for mask in masks.values()) if _inserts_zeros(masks) else 0
    in_elements = elements(shapes[0])
    return LayerWork(
        convolutions,
        in_elements=batch * in_elements,
        stretched_elements=batch * max(in_elements, stretched * program.deconv.in_channels),
        out_elements=batch * elements(shapes[-1]),
        run_elements=_run(program),
        moved_elements=batch * _moved(program),
        form=form,
        needed_macs=needed_macs(program.deconv, kernel),
    )


def _trace(program: Program) -> dict[int, Array]:
    """Which pixels of each value in front of the convolutions can be non-zero: one image, one channel."""
    rank = len(program.in_shape)
    spatial = spatial_axes(program.layout, rank)
    sizes = [program.in_shape[axis] if axis in spatial else 1 for axis in range(rank)]
    masks: dict[int, Array] = {0: np.ones([size or 1 for size in sizes], bool)}
    for number, step in enumerate(program.steps):
        source = masks.get(step.inputs[0])
        if source is not None and isinstance(step.op, Pad | Slice | Reshape | Transpose):
            masks[number + 1] = move(step.op, source)
    return masks


def move(op: Op, mask: Array) -> Array:
    """Data movement on the mask of a map."""
    match op:
        case Pad():
            return np.pad(mask, list(zip(op.begin, op.end, strict=True)))
        case Slice():
            cuts = [slice(b, n - e) for b, e, n in zip(op.begin, op.end, mask.shape, strict=True)]
            cut: Array = mask[tuple(cuts)]
            return cut
        case Transpose():
            return np.transpose(mask, op.perm)
    return np.reshape(mask, [size or 1 for size in op.shape(mask.shape)])


def _inserts_zeros(masks: dict[int, Array]) -> bool:
    return any(not mask.all() for mask in masks.values())


def _convolution(conv: Conv, mask: Array, batch: int, kernel: Array | None) -> Convolution:
    axes = list(spatial_axes(conv.layout, mask.ndim))
    lines = []
    for number, axis in enumerate(axes):
        others = tuple(each for each in range(mask.ndim) if each != axis)
        pads = bytes(conv.pad_begin[number]), bytes(conv.pad_end[number])
        occupied = pads[0] + mask.any(axis=others).astype(np.uint8).tobytes() + pads[1]
        lines.append(Line(occupied, conv.kernel[number], 1, conv.dilations[number], mask.shape[axis]))
    blocks = tuple(tuple(bytes(tap is not None for tap in taps) for taps in block) for block in conv.blocks)
    weights = None if kernel is None else FilterMask(conv_filter(kernel.astype(np.int8), conv) != 0)
    channels = conv.in_channels, conv.total_channels
    return Convolution(tuple(lines), *channels, conv.groups, batch, blocks, conv.order, weights)


def _run(program: Program) -> int:
    """Contiguous elements that a convolution writes into the output, which lies channels-last in memory."""
    convs = [step.op for step in program.steps if isinstance(step.op, Conv)]
    later = [step.op for step in program.steps[program.steps.index(_first_conv(program)) :]]
    channels, rank = program.deconv.out_channels, len(program.deconv.axes)
    if len(convs) == 1 and convs[0].total_channels == channels:  # its own map is the output
        return 0
    scattered = any(
        isinstance(op, DepthToSpace) or (isinstance(op, Transpose) and len(op.perm) > rank + 2) for op in later
    )
    if scattered or any(isinstance(op, Concat) and op.axis > rank + 1 for op in later):
        return channels
    per_pixel = min(conv.total_channels for conv in convs)
    rows = per_pixel == program.deconv.strides[-1] * channels
    return 0 if rows else per_pixel


def _first_conv(program: Program) -> object:
    return next(step for step in program.steps if isinstance(step.op, Conv))


def _moved(program: Program) -> int:
    """Elements of one image that data movement behind the first convolution reads and writes."""
    shapes = program.shapes((1, *program.in_shape[1:]))
    behind = False
    total = 0
    for step in program.steps:
        if isinstance(step.op, Conv):
            behind = True
        elif behind:
            total += step.op.moved(*(shapes[value] for value in step.inputs))
    return total


def sizes(deconv: Deconv) -> tuple[Sized, Sized]:
    """Input and output sizes of a deconv whose sizes are known."""
    ins = tuple(size for size in deconv.in_sizes if size is not None)
    outs = tuple(size for size in deconv.out_sizes if size is not None)
    assert len(ins) == len(deconv.axes), "callers refuse unknown sizes first"
    return ins, outs


def full_split(deconv: Deconv, kernel: Array | None = None) -> LayerWork:
    """The paper's split: every output that any input reaches, ``(I + T − 1)·s`` on each axis with ``T = ceil(K/s)``.

    One convolution with the ``s²·C`` filters, which are extended by zeros at their begin, then the rearrangement, then
    the crop. A dilated axis is not extended.
    """
    ins, outs = sizes(deconv)
    batch = deconv.batch or 1
    extended = [_extend(axis) for axis in deconv.axes]
    bare = [Axis(axis.kernel, axis.stride, axis.dilation, in_size=axis.in_size) for axis, _ in extended]
    windows = [merge(axis.phases()) for axis in bare]
    lines = tuple(_windowed(size, window) for size, window in zip(ins, windows, strict=True))
    shifted = [
        [_shifted(taps, added) for taps in window.taps] for window, (_, added) in zip(windows, extended, strict=True)
    ]
    phases = list(product(*shifted))
    blocks = tuple(tuple(bytes(tap is not None for tap in taps) for taps in phase) for phase in phases)
    weights = None if kernel is None else FilterMask(_stacked(kernel, phases, deconv.groups))
    channels = deconv.in_channels, len(blocks) * deconv.out_channels
    conv = Convolution(lines, *channels, deconv.groups, batch, blocks, "block_major", weights)
    splits, needed_elements = prod(deconv.strides) > 1, batch * deconv.out_channels * prod(outs)
    moved = 2 * conv.out_elements * splits + 2 * needed_elements * (conv.out_elements != needed_elements)
    return _work(deconv, [conv], kernel, "split:full", deconv.out_channels if splits else 0, moved)


def _shifted(taps: Taps, added: int) -> Taps:
    """Taps of a filter that is extended by ``added`` zeros at its begin, as those of the filter itself."""
    return tuple(tap - added if isinstance(tap, int) and tap >= added else None for tap in taps)


def _stacked(kernel: Array, phases: list[tuple[Taps, ...]], groups: int) -> Array:
    """Non-zero weights of all phases, OIHW, blocks of channels inside each group."""
    each = [_taken(kernel, list(phase), groups) for phase in phases]
    grouped = [block.reshape(groups, -1, *block.shape[1:]) for block in each]
    joined = np.concatenate(grouped, axis=1)
    return joined.reshape(-1, *joined.shape[2:])


def cropped_split(deconv: Deconv, kernel: Array | None = None) -> LayerWork:
    """The paper's split, computed on the needed outputs only: for each phase its own window of the extended filter.

    Every phase has ``ceil(K/s)`` taps on each axis, the filter being extended by zeros at its begin, as in the paper;
    no output is computed that is cropped later. A dilated axis is not extended.
    """
    batch = deconv.batch or 1
    extended = [_extend(axis) for axis in deconv.axes]
    convolutions = []
    for phases in product(*(axis.phases() for axis, _ in extended)):
        windows = [merge([phase]) for phase in phases]
        lines = _phase_lines(deconv, phases)
        if not lines:
            continue
        taps = [_shifted(window.taps[0], added) for window, (_, added) in zip(windows, extended, strict=True)]
        block = tuple(bytes(tap is not None for tap in line) for line in taps)
        weights = None if kernel is None else FilterMask(_taken(kernel, taps, deconv.groups))
        channels = deconv.in_channels, deconv.out_channels
        convolutions.append(Convolution(lines, *channels, deconv.groups, batch, (block,), "block_major", weights))
    splits = prod(deconv.strides) > 1
    moved = 2 * sum(conv.out_elements for conv in convolutions) if splits else 0
    return _work(deconv, convolutions, kernel, "split:cropped", deconv.out_channels if splits else 0, moved)


def _phase_lines(deconv: Deconv, phases: tuple[Phase, ...]) -> tuple[Line, ...]:
    """The axes of one phase's convolution, over its own outputs only; nothing where it has none.

    Phases are defined over as many outputs as the largest has; where the stride does not divide the output, the later
    ones have one less.
    """
    lines = []
    for axis, phase in zip(deconv.axes, phases, strict=True):
        window = merge([phase])
        assert axis.in_size is not None, "callers refuse unknown sizes first"
        rows = axis.in_size + axis.rows()
        own = -(-(rows * axis.stride - axis.surplus() - phase.offset) // axis.stride)
        if own < 1:
            return ()
        lines.append(_windowed(axis.in_size, window, rows - own))
    return tuple(lines)


def _windowed(size: int, window: Window, less: int = 0) -> Line:
    """An axis of ``size`` input pixels under ``window``, with ``less`` outputs left out at the end."""
    return dense_line(
        size,
        window.size,
        dilation=window.dilation,
        pad_begin=window.pad_begin,
        pad_end=window.pad_end - less,
    )


def _extend(axis: Axis) -> tuple[Axis, int]:
    """The axis with a kernel of a multiple of its stride, and how many zero taps that adds at the begin."""
    added = -axis.kernel % axis.stride if axis.dilation == 1 else 0
    wider = Axis(
        axis.kernel + added,
        axis.stride,
        axis.dilation,
        axis.pad_begin + added,
        axis.pad_end,
        axis.output_pad,
        axis.in_size,
    )
    return wider, added


def _taken(kernel: Array, taps: Sequence[Taps], groups: int) -> Array:
    """Non-zero weights of one phase, OIHW, from those of the deconv, IOHW."""
    return swapped_channels(taken_taps(kernel, taps), groups)


def _work(
    deconv: Deconv, convolutions: Sequence[Convolution], kernel: Array | None, form: str, run: int = 0, moved: int = 0
) -> LayerWork:
    """The work of convolutions that read the deconv's input as it is."""
    (ins, outs), batch = sizes(deconv), deconv.batch or 1
    in_elements, out_elements = batch * deconv.in_channels * prod(ins), batch * deconv.out_channels * prod(outs)
    needed = needed_macs(deconv, kernel)
    return LayerWork(tuple(convolutions), in_elements, in_elements, out_elements, run, moved, form, needed)


def scattered(deconv: Deconv, kernel: Array | None = None) -> LayerWork:
    """A deconv on hardware that sends every input pixel through all taps and adds the overlapping sums (FCN-Engine).

    As many cycles as a convolution whose outputs are the input's pixels; sums that are cropped are computed as well.
    """
    lines = tuple(
        Line(b"\1" * (size + (axis.kernel - 1)), axis.kernel, 1, 1, size)
        for size, axis in zip(sizes(deconv)[0], deconv.axes, strict=True)
    )
    weights = None if kernel is None else FilterMask(swapped_channels(kernel, deconv.groups))
    channels = deconv.in_channels, deconv.out_channels
    conv = Convolution(lines, *channels, deconv.groups, deconv.batch or 1, weights=weights)
    return _work(deconv, [conv], kernel, "native")


def phase_by_phase(deconv: Deconv, kernel: Array | None = None) -> LayerWork:
    """A deconv on hardware that computes each phase with its own taps and writes its pixels in place (GANAX)."""
    return _work(deconv, _own_phases(deconv, kernel), kernel, "native")


def needed_macs(deconv: Deconv, kernel: Array | None = None) -> int:
    """Products that the outputs need, none of them with a zero of the padding or of the trained weights."""
    return sum(useful_macs(conv) for conv in _own_phases(deconv, kernel))


def _own_phases(deconv: Deconv, kernel: Array | None) -> tuple[Convolution, ...]:
    """For each phase with taps, the convolution with these taps."""
    convolutions = []
    for phases in product(*(axis.phases() for axis in deconv.axes)):
        windows = [merge([phase]) for phase in phases]
        lines = _phase_lines(deconv, phases)
        if not lines or any(window.taps[0] == (None,) for window in windows):
            continue
        weights = None if kernel is None else FilterMask(_taken(kernel, [w.taps[0] for w in windows], deconv.groups))
        channels = deconv.in_channels, deconv.out_channels
        convolutions.append(Convolution(lines, *channels, deconv.groups, deconv.batch or 1, weights=weights))
    return tuple(convolutions)
