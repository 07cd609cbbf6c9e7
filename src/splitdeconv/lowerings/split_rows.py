"""Row forms: the column phases lie in the channels, so that putting them back is only a reshape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby, product

from splitdeconv.lowerings.base import Builder
from splitdeconv.lowerings.rearrange import from_rows, to_channels_last
from splitdeconv.ops import Layout, Program
from splitdeconv.results import Candidate
from splitdeconv.spec import Deconv, Phase, Window, merge


class _RowForm(ABC):
    """What both row forms share; they differ in how the column phases are put into convolutions."""

    name: str
    source = "splitdeconv"

    def refuse(self, deconv: Deconv) -> str | None:
        if deconv.groups > 1:
            return "groups keep their channels together, so column phases cannot be the outermost channels"
        if max(deconv.strides) == 1:
            return "all strides are 1: there is only one phase, which split already is"
        return None

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        return (Candidate(self.name),)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        *outer, columns = (axis.phases() for axis in deconv.axes)
        sets = self.column_windows(columns)
        rows = []
        for row_phases in product(*outer):
            fixed = [merge([phase]) for phase in row_phases]
            maps = [build.convolve(build.x, [*fixed, window], "block_major") for window in sets]
            rows.append([to_channels_last(build, value) for value in maps])
        return build.program(build.crop_output(from_rows(build, rows), [0] * len(deconv.axes)))

    @abstractmethod
    def column_windows(self, columns: Sequence[Phase]) -> list[Window]:
        """The convolutions of one row phase: consecutive column phases that share a window."""


class SplitRows(_RowForm):
    """One convolution per row phase, its outputs ordered (column phase, channel).

    Before: deconv ``(N, I, H, W)`` → ``(N, C, s·H, s·W)``.
    After: for each row phase Conv ``(N, H, W, s·C)`` over the union of the column windows; Concat on W
    ``(N, H, s·W, s·C)``; Reshape ``(N, s·H, s·W, C)``; Slice. In NCHW models Transposes stand around it.
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
        windows = groupby(columns, key=lambda phase: (phase.pad_begin, phase.pad_end, phase.dilation, len(phase.taps)))
        return [merge(list(run)) for _, run in windows]
