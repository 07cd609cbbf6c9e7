"""The paper's split deconvolution (SD): all sub-filters stacked in one convolution."""

from __future__ import annotations

from splitdeconv.deconv.ops import Layout, Order
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv, merge
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering
from splitdeconv.lowerings.rearrange import from_channels, split_forms


class Split(Lowering):
    """One convolution with ``prod(strides)·C`` outputs, its channels moved to space, the surplus cropped.

    Before: deconv ``(N, I, *sizes)`` → ``(N, C, *out_sizes)``.
    After: Conv ``(N, prod(s)·C, *Q)``, rearrangement ``(N, C, *(Q·s))``, Slice.
    Window ``union``: the smallest one that holds all phases, with nothing to crop at the begin.
    Window ``crop``: outputs are shifted until the window is smallest (``ceil(K/s)``), then cropped at the begin.
    Window ``full``: the paper's own, from the first output that an input reaches on; pads are cropped after.
    Source: the paper, section 4; the union window and its generality are this project's.
    """

    name = "split"
    source = "arXiv 1907.01773, SD"
    summary = "one convolution with all sub-filters, then channels to space"

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        forms = split_forms(deconv, layout)
        return tuple(Candidate(self.name, window, form) for window in _windows(deconv) for form in forms)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        shifts = [_shift(axis, candidate.window) for axis in deconv.axes]
        windows = [merge(axis.phases(shift)) for axis, shift in zip(deconv.axes, shifts, strict=True)]
        order = _order(deconv, layout, candidate.form)
        build = Builder(deconv, layout)
        merged = build.convolve(build.x, windows, order)
        return build.program(build.crop_output(from_channels(build, merged, order, candidate.form), shifts))


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
