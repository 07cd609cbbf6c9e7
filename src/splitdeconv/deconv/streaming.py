"""Models in chunks: how values lie on the streamed axis, and what operators keep from one chunk to the next.

A *frame* is one place of the streamed axis of the inputs. A value has ``rate`` samples for each frame; the whole model
makes ``rate·frames + extra`` of them. With each chunk of frames the streamed model makes ``rate`` samples for each of
them, ``delay`` samples late: the n-th sample of the stream is number ``n − delay`` of the whole. What lies before
number 0 or behind the last one is *outside*: the whole model has no such sample, and its convolutions read zeros there.

An operator that reads neighbours keeps ``past`` samples of its input; all of it starts from zeros.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Generic, TypeVar

from splitdeconv.deconv.layers import ConvAxis
from splitdeconv.deconv.spec import Axis

NEVER = 2**62  # a sample that no signal reaches
Value = TypeVar("Value")  # of a graph


class NotStreamableError(Exception):
    """An operator cannot work in chunks; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Signal:
    """How a value lies on the streamed axis.

    Attributes:
        axis: which of its axes it is.
        rate: samples for each frame.
        delay: samples by which the stream is late; below 0 only where it begins with zeros that are left out.
        extra: samples that the whole model makes beyond ``rate·frames``.
        zero_outside: whether what is outside is zero already.
    """

    axis: int
    rate: Fraction = Fraction(1)
    delay: int = 0
    extra: int = 0
    zero_outside: bool = False

    @property
    def frames_late(self) -> int:
        """Frames that must follow the last one until the stream has made all samples."""
        return max(0, math.ceil((self.delay + self.extra) / self.rate))

    def cropped(self, begin: int, end: int) -> Signal:
        """Without ``begin`` samples of the whole at its begin, and ``end`` at its end; below 0 adds zeros.

        The stream has the same samples.
        """
        zero = self.zero_outside and begin <= 0 and end <= 0
        return replace(self, delay=self.delay + begin, extra=self.extra - begin - end, zero_outside=zero)

    def repeated(self, factor: int) -> Signal:
        """With every sample several times."""
        return replace(self, rate=self.rate * factor, delay=self.delay * factor, extra=self.extra * factor)


@dataclass(frozen=True, slots=True)
class Reach:
    """What an operator reads: samples kept from earlier chunks, then those of the chunk, without some at either end.

    Attributes:
        past: samples that are kept.
        skip, drop: samples left out at the begin and at the end.
    """

    past: int = 0
    skip: int = 0
    drop: int = 0

    @classmethod
    def of(cls, before: int, behind: int) -> Reach:
        """What begins ``before`` samples ahead of the chunk and ends ``behind`` ahead of its end."""
        return cls(max(0, before), max(0, -before), behind)


def delayed(signal: Signal, delay: int) -> Reach:
    """What delays a value to ``delay``: as many samples as in the chunk, from earlier on."""
    return Reach.of(delay - signal.delay, delay - signal.delay)


def maskable(signal: Signal) -> int:
    """The delay that a value needs before what is outside can be told: no sample may pass before its end is known."""
    return max(signal.delay, -signal.extra)


def convolution(signal: Signal, axis: ConvAxis) -> tuple[Reach, Signal]:
    """What a convolution or a pooling reads, its pads apart, and what it makes.

    Args:
        signal: its input; zero outside unless the axis has no pads.
        axis: of the operator; its input size is not read.

    Raises:
        NotStreamableError: its output has no whole rate.
    """
    reach, stride = (axis.kernel - 1) * axis.dilation, axis.stride
    late = max(0, math.ceil(Fraction(signal.delay + reach - axis.pad_begin - stride + 1, stride)))
    begin = stride * late - signal.delay + axis.pad_begin
    end = stride * late - signal.delay + stride - 1 - reach + axis.pad_begin
    extra = (signal.extra + axis.pad_begin + axis.pad_end - reach - 1) // stride + 1
    made = Signal(signal.axis, signal.rate / stride, late, extra)
    return Reach.of(begin, end if end >= stride else 0), made


def transposed(signal: Signal, axis: Axis) -> tuple[Reach, Axis, Signal]:
    """What a transposed convolution reads, the crop that it then has, and what it makes.

    Its phases read places ``first`` to ``last`` relative to an output's own: inputs are kept, and no sums of outputs.

    Args:
        signal: its input, zero outside.
        axis: of the operator.
    """
    places = [place for phase in axis.phases() for place in phase.positions]
    first, last = min(0, *places), max(places)
    late = max(0, signal.delay + last)
    window = Reach.of(late - signal.delay - first, late - signal.delay - last)
    begin = axis.pad_begin - first * axis.stride
    end = (last - 1) * axis.stride + axis.extent - axis.pad_begin
    crop = Axis(axis.kernel, axis.stride, axis.dilation, begin, max(0, end), max(0, -end))
    extra = axis.stride * (signal.extra - 1) + axis.extent + axis.output_pad - axis.pad_begin - axis.pad_end
    return window, crop, Signal(signal.axis, signal.rate * axis.stride, late * axis.stride, extra)


def joined(signals: Sequence[Signal]) -> Signal:
    """What an element-wise operator makes of several values, each delayed to the delay of the result.

    Raises:
        NotStreamableError: they do not lie alike on the axis.
    """
    first = signals[0]
    for each in signals[1:]:
        if (each.axis, each.rate) != (first.axis, first.rate):
            one, other = (f"{signal.rate} samples a frame on axis {signal.axis}" for signal in (first, each))
            raise NotStreamableError(f"its inputs lie differently on the streamed axis: {one}, and {other}")
        if each.extra != first.extra:
            raise NotStreamableError(f"one of its inputs is {abs(each.extra - first.extra)} samples longer")
    delay = max([0, *(each.delay for each in signals)])
    return replace(first, delay=delay, zero_outside=all(each.zero_outside for each in signals))


@dataclass(frozen=True, slots=True)
class StreamedOutput:
    """An output of a streamed model.

    Attributes:
        axis: the streamed one.
        rate: samples for each frame.
        skip: samples at the begin of the stream that are none of the signal's.
        extra: samples that the whole model makes beyond ``rate·frames``.
    """

    axis: int
    rate: Fraction
    skip: int
    extra: int

    def length(self, frames: int) -> int:
        """Samples that the whole model makes of so many frames."""
        return int(self.rate * frames) + self.extra


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a streamed model is run.

    Attributes:
        inputs: the streamed axis of each input that has one.
        outputs: by name.
        multiple: chunks have a multiple of this number of frames.
        latency: frames that must follow a frame until everything that it reaches has been made; as many are fed at the
            end, whatever they hold.
        past: frames that the longest state holds.
        states: input that takes a state → output that gives the next one; all start with zeros.
        beyond: the input that tells how many frames of this chunk and those before lie behind the end of the signal.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, StreamedOutput]
    multiple: int
    latency: int
    past: int
    states: Mapping[str, str]
    beyond: str

    def describe(self) -> str:
        """One sentence for records."""
        frames = "any number of frames" if self.multiple == 1 else f"a multiple of {self.multiple} frames"
        inputs = ", ".join(f"axis {axis} of '{name}'" for name, axis in self.inputs.items())
        outputs = "; ".join(
            f"'{name}': {each.rate} samples a frame, the first {each.skip} are to be left out"
            for name, each in self.outputs.items()
        )
        return f"streamed over {inputs} in chunks of {frames}, latency {self.latency} frames; {outputs}"


@dataclass(eq=False)
class SignalWalk(ABC, Generic[Value]):
    """A graph on the way to one in chunks, which is changed; its kind of graph says how values are read and masked.

    Attributes:
        signals: how values lie on the streamed axis; values without it do not depend on it.
        states: inputs that take a state → the values that are the next ones.
        past: frames that the longest state holds.
    """

    signals: dict[Value, Signal] = field(default_factory=dict, init=False)
    states: dict[Value, Value] = field(default_factory=dict, init=False)
    past: Fraction = field(default=Fraction(), init=False)
    _late: dict[tuple[Value, int], Value] = field(default_factory=dict, init=False)
    _inside: dict[Value, Value] = field(default_factory=dict, init=False)

    @abstractmethod
    def read(self, value: Value, reach: Reach) -> Value:
        """What an operator reads of a streamed value: kept samples, and those of the chunk."""

    @abstractmethod
    def zeros_outside(self, value: Value) -> Value:
        """A streamed value, late enough for that, with zeros outside the signal."""

    @abstractmethod
    def follow(self, made: Value, source: Value) -> None:
        """Note that a new value has the type and, in the whole, the shape of another."""

    def delayed(self, value: Value, delay: int) -> Value:
        """A streamed value with a larger delay."""
        signal = self.signals[value]
        if signal.delay == delay:
            return value
        if (value, delay) not in self._late:
            late = self._late[value, delay] = self.read(value, delayed(signal, delay))
            self.follow(late, value)
            self.signals[late] = replace(signal, delay=delay)
        return self._late[value, delay]

    def masked(self, value: Value) -> Value:
        """A streamed value with zeros outside the signal."""
        signal = self.signals[value]
        if signal.zero_outside:
            return value
        if value not in self._inside:
            source = self.delayed(value, maskable(signal))
            made = self._inside[value] = self.zeros_outside(source)
            self.follow(made, value)
            self.signals[made] = replace(self.signals[source], zero_outside=True)
        return self._inside[value]

    def streaming(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, StreamedOutput],
        results: Iterable[Value],
        states: Mapping[str, str],
        beyond: str,
    ) -> Streaming:
        """How the graph is run; arguments as the attributes of :class:`Streaming`, ``results`` its outputs."""
        multiple = math.lcm(*(signal.rate.denominator for signal in self.signals.values()))
        late = max(self.signals[each].frames_late for each in results)
        latency = -(-late // multiple) * multiple
        return Streaming(inputs, outputs, multiple, latency, math.ceil(self.past), states, beyond)


def output_of(signal: Signal) -> StreamedOutput:
    """An output that lies as ``signal``."""
    return StreamedOutput(signal.axis, signal.rate, signal.delay, signal.extra)
