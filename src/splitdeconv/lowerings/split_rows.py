"""Row forms: the column phases lie in the channels, so that putting them back is only a reshape."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby, product

from splitdeconv.deconv.ops import Layout, Part
from splitdeconv.deconv.phases import Phase, Window, merge
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering, too_many
from splitdeconv.lowerings.rearrange import from_rows, to_channels_last


class _RowForm(Lowering):
    """What both row forms share; they differ in how the column phases are put into convolutions."""

    source = "splitdeconv"

    def refuse(self, deconv: Deconv) -> str | None:
        if deconv.groups > 1:
            return "groups keep their channels together, so column phases cannot be the outermost channels"
        if max(deconv.strides) == 1:
            return "all strides are 1: there is only one phase, which split already is"
        runs = len(self.column_windows(deconv.axes[-1].phases()))
        return too_many(math.prod(deconv.strides[:-1]) * runs, "convolutions")

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        """Row phases one by one; and where some share a window, channels-last, these in one convolution."""
        grouped = any(len(run) > 1 for axis in deconv.axes[:-1] for run in equal_windows(axis.phases()))
        options = ("", "grouped") if grouped and layout == "NHWC" else ("",)
        return tuple(Candidate(self.name, window) for window in options)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        *outer, columns = (axis.phases() for axis in deconv.axes)
        sets = self.column_windows(columns)
        together = candidate.window == "grouped"
        runs = [equal_windows(phases) if together else [[phase] for phase in phases] for phases in outer]
        rows: dict[tuple[int, ...], list[int]] = {}
        for chosen in product(*runs):
            fixed = [merge(run) for run in chosen]
            maps = [build.convolve(build.x, [*fixed, window], "block_major") for window in sets]
            offsets = list(product(*([phase.offset for phase in run] for run in chosen)))
            cut = [self._parts(build, value, len(offsets)) for value in maps]
            rows |= {offset: list(parts) for offset, *parts in zip(offsets, *cut, strict=True)}
        whole = from_rows(build, [rows[offset] for offset in sorted(rows)])
        return build.program(build.crop_output(whole, [0] * len(deconv.axes)))

    def _parts(self, build: Builder, value: int, count: int) -> list[int]:
        """The maps of single row phases out of one that holds ``count`` of them in its channels."""
        if count == 1:
            return [to_channels_last(build, value)]
        return [build.add(Part(build.channels, index, count), value) for index in range(count)]

    @abstractmethod
    def column_windows(self, columns: Sequence[Phase]) -> list[Window]:
        """The convolutions of one row phase: consecutive column phases that share a window."""


class SplitRows(_RowForm):
    """One convolution per row phase, its outputs ordered (column phase, channel).

    Before: deconv ``(N, I, H, W)`` → ``(N, C, s·H, s·W)``.
    After: for each row phase Conv ``(N, H, W, s·C)`` over the union of the column windows; Concat on W
    ``(N, H, s·W, s·C)``; Reshape ``(N, s·H, s·W, C)``; Slice. In NCHW models Transposes stand around it.
    Window ``grouped``: row phases with equal windows in one convolution, whose channels are then cut apart.
    Source: this project.
    """

    name = "split_rows"
    summary = "one convolution per row phase; concat of long rows and a reshape (NHWC inside)"

    def column_windows(self, columns: Sequence[Phase]) -> list[Window]:
        return [merge(columns)]


class SplitRowGroups(_RowForm):
    """As :class:`SplitRows`, but column phases whose windows differ get convolutions of their own: no zero taps.

    Before: deconv ``(N, I, H, W)`` → ``(N, C, s·H, s·W)``.
    After: Convs ``(N, H, W, p·C)``; Concat on C ``(N, H, W, s·C)``; Concat on W; Reshape; Slice.
    Source: this project.
    """

    name = "split_row_groups"
    summary = "as split_rows, with column phases of unequal windows in convolutions of their own"

    def refuse(self, deconv: Deconv) -> str | None:
        columns = deconv.axes[-1].phases()
        if reason := super().refuse(deconv):
            return reason
        if len(self.column_windows(columns)) == 1:
            return "all column phases have the same window, which split_rows already is"
        return None

    def column_windows(self, columns: Sequence[Phase]) -> list[Window]:
        return [merge(run) for run in equal_windows(columns)]


def equal_windows(phases: Sequence[Phase]) -> list[list[Phase]]:
    """Runs of neighbouring phases that read the same stretch of the input."""
    runs = groupby(phases, key=lambda phase: (phase.pad_begin, phase.pad_end, phase.dilation, len(phase.taps)))
    return [list(run) for _, run in runs]
