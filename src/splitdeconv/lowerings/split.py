"""The paper's split deconvolution (SD): all sub-filters stacked in one convolution."""

from __future__ import annotations

from math import prod

from splitdeconv.deconv.ops import AddBias, Dim, Layout, Order, Reshape, spatial_axes
from splitdeconv.deconv.phases import merge
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.written import in_original_taps
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.lowerings.lowering import Builder, Lowering
from splitdeconv.lowerings.rearrange import from_channels, split_forms

TAPS = "taps"


class Split(Lowering):
    """One convolution with ``prod(strides)·C`` outputs, its channels moved to space, the surplus cropped.

    Before: deconv ``(N, I, *sizes)`` → ``(N, C, *out_sizes)``.
    After: Conv ``(N, prod(s)·C, *Q)``, rearrangement ``(N, C, *(Q·s))``, Slice.
    Window ``union``: the smallest one that holds all phases, with nothing to crop at the begin.
    Window ``crop``: outputs are shifted until the window is smallest (``ceil(K/s)``), then cropped at the begin.
    Window ``full``: the paper's own, from the first output that an input reaches on; pads are cropped after.
    Window ``taps``: of kernels smaller than their stride, the phases that have taps only, Conv
    ``(N, prod(min(K, s))·C, *Q)``; Reshape, Pad, Reshape put zeros in the place of the others; the bias is added last.
    In float only: quantised outputs are stored numbers, which zeros do not stand for.
    Source: the paper, section 4; the union window and its generality are this project's.
    """

    name = "split"
    source = "arXiv 1907.01773, SD"
    summary = "one convolution with all sub-filters, then channels to space"

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        forms = split_forms(deconv, layout)
        found = tuple(Candidate(self.name, window, form) for window in _windows(deconv) for form in forms)
        if not leaves_phases_out(deconv):
            return found
        return (*(Candidate(self.name, TAPS, form) for form in forms if form != "two_steps"), *found)

    def refuse_windows(self, deconv: Deconv) -> tuple[Refusal, ...]:
        reason = _taps_refusal(deconv) if _is_narrow(deconv) else None
        return () if reason is None else (Refusal(Candidate(self.name, TAPS), reason),)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        if candidate.window == TAPS:
            return _with_zeros(deconv, layout, candidate.form)
        shifts = [_shift(axis, candidate.window) for axis in deconv.axes]
        windows = [merge(axis.phases(shift)) for axis, shift in zip(deconv.axes, shifts, strict=True)]
        order = _order(deconv, layout, candidate.form)
        build = Builder(deconv, layout)
        merged = build.convolve(build.x, windows, order)
        return build.program(build.crop_output(from_channels(build, merged, order, candidate.form), shifts))


def _is_narrow(deconv: Deconv) -> bool:
    """Whether some phases have no taps because the kernel is smaller than its stride."""
    return any(axis.kernel < axis.stride for axis in deconv.axes)


def leaves_phases_out(deconv: Deconv) -> bool:
    """Whether some phases have no taps, and zeros can stand for them."""
    return _is_narrow(deconv) and _taps_refusal(deconv) is None


def _taps_refusal(deconv: Deconv) -> str | None:
    """Why zeros cannot stand for the phases without taps, or None."""
    if deconv.quant is not None:
        return "its outputs are stored numbers: the phases without taps would have to be the rounded bias, not zeros"
    if any(axis.dilation > 1 for axis in deconv.axes):
        return "its taps are dilated: the phases without taps lie between the others, not behind them"
    return "its taps are those of a convolution behind zeros" if deconv.written_out is not None else None


def _with_zeros(deconv: Deconv, layout: Layout, form: str) -> Program:
    """The program of window ``taps``: with outputs shifted by the pad, the phases that have taps come first."""
    build = Builder(deconv, layout)
    shifts = [axis.pad_begin % axis.stride for axis in deconv.axes]
    counts = [min(axis.kernel, axis.stride) for axis in deconv.axes]
    sets = zip(deconv.axes, shifts, counts, strict=True)
    own = [in_original_taps(deconv, n, merge(a.phases(shift)[:count])) for n, (a, shift, count) in enumerate(sets)]
    order: Order = "block_major" if deconv.groups == 1 else "channel_major"
    value = build.convolve_by(build.x, own, order, bias=False)
    whole = from_channels(build, _all_phases(build, value, counts, order), order, form)
    value = build.crop_output(whole, shifts)
    return build.program(build.add(AddBias(layout), value) if deconv.has_bias else value)


def _all_phases(build: Builder, value: int, counts: list[int], order: Order) -> int:
    """The channels of the first ``counts`` phases of each axis, and zeros for the others."""
    strides, layout = build.deconv.strides, build.layout
    rank, channels = len(strides), Dim(build.deconv.out_channels)
    first = 1 if layout == "NCHW" else 1 + rank
    missing = [stride - count for stride, count in zip(strides, counts, strict=True)]
    sizes = [Dim(1, axis=axis) for axis in spatial_axes(layout, rank + 2)]
    depth = [Dim(count) for count in counts]
    depth.insert(0 if order == "channel_major" else rank, channels)
    phases = first + (1 if order == "channel_major" else 0)
    apart = (Dim(1, axis=0), *depth, *sizes) if layout == "NCHW" else (Dim(1, axis=0), *sizes, *depth)
    value = build.pad(build.add(Reshape(apart), value), range(phases, phases + rank), [0] * rank, missing)
    behind = first + rank + 1  # in NCHW
    sizes = [Dim(1, axis=(behind if layout == "NCHW" else 1) + number) for number in range(rank)]
    joined = Dim(prod(strides) * build.deconv.out_channels)
    together = (Dim(1, axis=0), joined, *sizes) if layout == "NCHW" else (Dim(1, axis=0), *sizes, joined)
    return build.add(Reshape(together), value)


def _windows(deconv: Deconv) -> tuple[str, ...]:
    """Windows that differ for this deconv, smallest number of multiply-accumulates first."""
    if not any(axis.crop_shift for axis in deconv.axes):
        same = all(axis.full_shift == 0 for axis in deconv.axes)
        return ("union",) if same else ("union", "full")
    return ("crop", "union", "full")


def _shift(axis: Axis, window: str) -> int:
    """Leading outputs to compute and crop."""
    return {"union": 0, "crop": axis.crop_shift, "full": axis.full_shift}[window]


def _order(deconv: Deconv, layout: Layout, form: str) -> Order:
    """Phases inside channels where groups demand it, or where the transpose then moves longer runs."""
    if deconv.groups > 1 or (layout == "NCHW" and form in ("transpose", "two_steps")):
        return "channel_major"
    return "block_major"
