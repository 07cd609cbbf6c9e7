"""What every lowering is, and the builder with which it writes its program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from splitdeconv.deconv.ops import Conv, Layout, Op, Order, Pad, Shape, Slice, channel_axis, spatial_axes
from splitdeconv.deconv.phases import Window
from splitdeconv.deconv.program import Program, Step
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import in_original_taps
from splitdeconv.lowerings.candidate import Candidate, Refusal

# Convolutions, or shifted sums, of one form. Starting 64 convolutions costs what 96 M multiply-accumulates do
# (choosing.planner.CONV_WEIGHT), nearly all of DCGAN's three deconvs. Stride 8 on two axes and 4 on three stay below;
# kernels of larger strides are multiples of the stride (STFT, FCN), so that merged forms have no zero taps to save.
MOST_PARTS = 64


def too_many(count: int, parts: str) -> str | None:
    """Why a form of ``count`` ``parts`` is not worth building, or None."""
    return f"would be {count} {parts}, more than {MOST_PARTS}" if count > MOST_PARTS else None


class Lowering(ABC):
    """An exact way to write a deconv as ordinary operations.

    Attributes:
        name: as the command line takes it.
        source: where it comes from.
        summary: one line for ``splitdeconv targets`` and the docs.
        rank: 0 for what is chosen on its merits; those above are taken only where nothing of a lower rank applies.
        inserts_zeros: whether its convolution multiplies by zeros between the input's pixels.
        only_written_out: whether it is for upsamplings followed by convolutions, and no refusal of other deconvs.
    """

    name: str
    source: str
    summary: str
    rank: int = 0
    inserts_zeros: bool = False
    only_written_out: bool = False

    def refuse(self, deconv: Deconv) -> str | None:
        """Why this lowering does not apply to ``deconv``, or None."""
        return None

    def refuse_windows(self, deconv: Deconv) -> tuple[Refusal, ...]:
        """The windows that a user may ask for but that do not apply to a ``deconv`` that is not refused, and why."""
        return ()

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        """The options that make sense for a ``deconv`` that is not refused, in ``layout``; the first is the default."""
        return (Candidate(self.name),)

    @abstractmethod
    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        """The program that computes ``deconv`` in the way of ``candidate``, with input and output in ``layout``.

        Args:
            candidate: one of :meth:`candidates`.
        """


class Builder:
    """Writes a program step by step; equal steps are written once.

    Attributes:
        deconv, layout: of the program.
        x: the program's input value.
        inputs: the values of its further inputs, whose shapes the builder is made with.
    """

    def __init__(self, deconv: Deconv, layout: Layout, inputs: Sequence[Shape] = ()) -> None:
        self.deconv = deconv
        self.layout = layout
        self._empty = Program(deconv, layout, (), inputs=tuple(inputs))
        self.x, *self.inputs = range(len(self._empty.in_shapes))
        self._steps: list[Step] = []
        self._shapes: list[Shape] = list(self._empty.in_shapes)

    def add(self, op: Op, *inputs: int) -> int:
        """Append ``op`` on the values ``inputs``; returns its value, or that of an equal step."""
        step = Step(op, inputs)
        if step in self._steps:
            return len(self._empty.in_shapes) + self._steps.index(step)
        self._steps.append(step)
        self._shapes.append(op.shape(*(self._shapes[value] for value in inputs)))
        return len(self._shapes) - 1

    def program(self, output: int) -> Program:
        """The finished program; ``output`` must be its last value."""
        assert output == len(self._shapes) - 1, "the output is the last value of a program"
        return replace(self._empty, steps=tuple(self._steps))

    def rank(self, value: int) -> int:
        """Number of axes of a value."""
        return len(self._shapes[value])

    def channel_count(self, value: int, last: bool = False) -> int:
        """Number of channels of a value; of a channels-last one with ``last``."""
        channels = self._shapes[value][-1 if last else self.channels]
        assert channels is not None, "channels are always known"
        return channels

    def pad(self, value: int, axes: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> int:
        """``value`` with ``begin`` and ``end`` zeros on each of ``axes``; no step where all counts are 0."""
        return self._resize(value, axes, begin, end, Pad)

    def crop(self, value: int, axes: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> int:
        """``value`` without its first ``begin`` and last ``end`` elements on ``axes``; no step where all are 0."""
        return self._resize(value, axes, begin, end, Slice)

    def _resize(
        self, value: int, axes: Sequence[int], begin: Sequence[int], end: Sequence[int], kind: type[Pad] | type[Slice]
    ) -> int:
        if not any(begin) and not any(end):
            return value
        begins, ends = [0] * self.rank(value), [0] * self.rank(value)
        for axis, first, last in zip(axes, begin, end, strict=True):
            begins[axis], ends[axis] = first, last
        return self.add(kind(tuple(begins), tuple(ends)), value)

    def convolve(self, value: int, windows: Sequence[Window], order: Order) -> int:
        """The phases of all ``windows`` (one for each axis) of ``value`` in one convolution, row-major in its blocks.

        ``order`` of the output channels is ``block_major`` (phase, channel) or ``channel_major`` (channel, phase).
        """
        own = [in_original_taps(self.deconv, number, window) for number, window in enumerate(windows)]
        return self.convolve_by(value, own, order, bias=self.deconv.has_bias)

    def convolve_by(
        self,
        value: int,
        windows: Sequence[Window],
        order: Order,
        *,
        bias: bool,
        first_row: int | None = None,
        groups: int = 0,
        flat: bool = False,
    ) -> int:
        """As :meth:`convolve`, with windows whose taps are those of the model's own filter, or sums of them.

        Zeros that a window needs become the convolution's own pads. Where an axis needs both zeros and a crop, the
        zeros come first, so that no intermediate size can be below 1.

        Args:
            value: the map.
            windows: one for each axis.
            order: of the output channels.
            bias: whether the convolution adds the deconv's bias.
            first_row: of the model's kernel that meets the map; None: the first of the stretched map's own.
            groups: of the map's channels, where they are not those of the deconv.
            flat: whether it is a matrix product; the windows have one tap and no pads then.
        """
        deconv, layout, groups = self.deconv, self.layout, groups or self.deconv.groups
        mixed = [min(w.pad_begin, w.pad_end) < 0 < max(w.pad_begin, w.pad_end) for w in windows]
        pads = [(w.pad_begin, w.pad_end) for w in windows]
        late = [(0, 0) if m else (max(0, b), max(0, e)) for (b, e), m in zip(pads, mixed, strict=True)]
        early = [(b - more, e - less) for (b, e), (more, less) in zip(pads, late, strict=True)]
        value = self.resize(value, early)
        pad_begin, pad_end = zip(*late, strict=True)
        conv = Conv(
            layout,
            blocks=tuple(product(*(window.taps for window in windows))),
            order=order,
            in_channels=self.channel_count(value),
            out_channels=deconv.out_channels // deconv.groups * groups,
            groups=groups,
            has_bias=bias,
            dilations=tuple(window.dilation for window in windows),
            pad_begin=pad_begin,
            pad_end=pad_end,
            first_row=deconv.first_row if first_row is None else first_row,
            flat=flat,
        )
        return self.add(conv, value)

    def resize(self, value: int, pads: Sequence[tuple[int, int]]) -> int:
        """``value`` with zeros before and behind each spatial axis, then without pixels where ``pads`` are negative."""
        axes = spatial_axes(self.layout, self.rank(value))
        value = self.pad(value, axes, *zip(*((max(0, b), max(0, e)) for b, e in pads), strict=True))
        return self.crop(value, axes, *zip(*((max(0, -b), max(0, -e)) for b, e in pads), strict=True))

    def crop_output(self, value: int, shifts: Sequence[int]) -> int:
        """``value`` without what was computed in addition: ``shifts`` at the begin, the phases' surplus at the end."""
        axes = spatial_axes(self.layout, self.rank(value))
        ends = [axis.surplus(shift) for axis, shift in zip(self.deconv.axes, shifts, strict=True)]
        return self.crop(value, axes, shifts, ends)

    @property
    def channels(self) -> int:
        """The channel axis of the program's input and output."""
        return channel_axis(self.layout, len(self.deconv.axes) + 2)
