"""A graph on the way to one in chunks: kept samples, delays, and zeros outside the signal, as nodes and inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.streaming import NotStreamableError, Reach, Signal, delayed, maskable
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.writer import END, Constants, Writer

_NEVER = 2**62  # a sample that no signal reaches
_POSITION, _BEYOND = "stream_position", "stream_beyond"


@dataclass
class Walk:
    """A model on the way to one in chunks; its graph is changed.

    Attributes:
        model: it.
        shapes: of the whole model's values.
        signals: how values lie on the streamed axis; values without it do not depend on it.
        states: inputs that take a state → the values that are the next ones.
    """

    model: ir.Model
    shapes: Shapes
    signals: dict[ir.Value, Signal] = field(default_factory=dict)
    states: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        names = {value.name or "" for each in (*graph, graph) for value in (*each.inputs, *each.outputs) if value}
        names |= {node.name or "" for node in graph} | set(graph.initializers)
        self._constants = Constants(graph, self.model.ir_version, names)
        self.past = Fraction()
        self._masks: dict[object, ir.Value] = {}
        self._masked: dict[ir.Value, ir.Value] = {}
        self._delayed: dict[tuple[ir.Value, int], ir.Value] = {}
        self.position, self.beyond = (self._input(name, ir.DataType.INT64, ()) for name in (_POSITION, _BEYOND))
        self.writer = self.new_writer("stream")

    @property
    def opset(self) -> int:
        """Version of the standard operators."""
        return self.model.opset_imports.get("", 0)

    def new_writer(self, name: str) -> Writer:
        """What collects the nodes that stand before the next one, named after ``name``."""
        self.writer = Writer(name, self.opset, self._constants, {})
        return self.writer

    def _input(self, name: str, dtype: ir.DataType, shape: Shape) -> ir.Value:
        sizes = [f"{name}_{axis}" if size is None else size for axis, size in enumerate(shape)]
        value = ir.Value(name=self._constants.unique(name), type=ir.TensorType(dtype), shape=ir.Shape(sizes))
        self.model.graph.inputs.append(value)
        return value

    def rank(self, value: ir.Value) -> int:
        """Number of axes of a value of the whole model."""
        return len(self.shape(value))

    def shape(self, value: ir.Value) -> Shape:
        """Shape of a value of the whole model.

        Raises:
            NotStreamableError: it is unknown.
        """
        found = self.shapes.by_name.get(value.name or "")
        if found is None:
            raise NotStreamableError(f"the number of axes of '{value.name}' is unknown")
        return found

    def scaled(self, count: ir.Value, rate: Fraction) -> ir.Value:
        """So many frames in samples."""
        if rate.numerator > 1:
            count = self.writer.op("Mul", [count, self._number(rate.numerator)])
        return count if rate.denominator == 1 else self.writer.op("Div", [count, self._number(rate.denominator)])

    def _number(self, value: int) -> ir.Value:
        return self.writer.array("number", np.asarray(value, np.int64))

    def read(self, value: ir.Value, reach: Reach) -> ir.Value:
        """What an operator reads of a streamed value: kept samples, and those of the chunk."""
        axis, shape = self.signals[value].axis, list(self.shape(value))
        if reach.past:
            shape[axis] = reach.past
            dtype = value.dtype or self.shapes.type_of(value) or ir.DataType.FLOAT
            state = self._input(f"stream_state_{value.name}", dtype, tuple(shape))
            read = self.writer.op("Concat", [state, value], {"axis": axis})
            self.past = max(self.past, Fraction(reach.past) / self.signals[value].rate)
            self.states[state] = self._slice(read, axis, -reach.past, END)
        else:
            read = value
        return read if not reach.skip and not reach.drop else self._slice(read, axis, reach.skip, -reach.drop or END)

    def _slice(self, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
        lists = [self.writer.integers("slice", [number]) for number in (start, end, axis)]
        return self.writer.op("Slice", [value, *lists])

    def delayed(self, value: ir.Value, delay: int) -> ir.Value:
        """A streamed value with a larger delay."""
        signal = self.signals[value]
        if signal.delay == delay:
            return value
        if (value, delay) not in self._delayed:
            late = self.read(value, delayed(signal, delay))
            self._follow(late, value, Signal(signal.axis, signal.rate, delay, signal.extra, signal.zero_outside))
            self._delayed[value, delay] = late
        return self._delayed[value, delay]

    def masked(self, value: ir.Value) -> ir.Value:
        """A streamed value with zeros outside the signal."""
        signal = self.signals[value]
        if signal.zero_outside:
            return value
        if value not in self._masked:
            source = self.delayed(value, maskable(signal))
            signal = self.signals[source]
            dtype = value.dtype or self.shapes.type_of(value) or ir.DataType.FLOAT
            zero = self.writer.array("zero", np.zeros((), dtype.numpy()))
            mask = self._mask(signal, self.rank(source) - signal.axis - 1)
            made = self.writer.op("Where", [mask, source, zero])
            self._follow(made, value, Signal(signal.axis, signal.rate, signal.delay, signal.extra, True))
            self._masked[value] = made
        return self._masked[value]

    def _follow(self, made: ir.Value, source: ir.Value, signal: Signal) -> None:
        """Note how a value lies that has the shape of another in the whole model."""
        self.signals[made] = signal
        self.shapes = Shapes(
            {**self.shapes.by_name, made.name or "": self.shape(source)}, self.shapes.types, self.shapes.symbols
        )
        made.type = source.type

    def _mask(self, signal: Signal, behind: int) -> ir.Value:
        """Which samples of a chunk are inside the signal, with ``behind`` axes of size 1 behind them."""
        key = signal.rate, signal.delay, signal.extra, behind
        if key not in self._masks:
            first = self.scaled(self.position, signal.rate)
            if signal.delay:
                first = self.writer.op("Sub", [first, self._number(signal.delay)])
            last = self.writer.op("Add", [first, self.scaled(self.frames, signal.rate)])
            samples = self.writer.op("Range", [first, last, self._number(1)])
            begun = self.writer.op("Less", [self._number(-1), samples])
            inside = self.writer.op("And", [begun, self.writer.op("Less", [samples, self._end(signal)])])
            if behind:
                inside = self.writer.op("Reshape", [inside, self.writer.integers("shape", [-1, *[1] * behind])])
            self._masks[key] = inside
        return self._masks[key]

    def _end(self, signal: Signal) -> ir.Value:
        """The first sample behind the signal, as far as that is known."""
        key = signal.rate, signal.extra
        if key not in self._masks:
            fed = self.writer.op("Add", [self.position, self.frames])
            end = self.scaled(self.writer.op("Sub", [fed, self.beyond]), signal.rate)
            end = self.writer.op("Add", [end, self._number(signal.extra)])
            known = self.writer.op("Less", [self._number(0), self.beyond])
            self._masks[key] = self.writer.op("Where", [known, end, self._number(_NEVER)])
        return self._masks[key]

    def count_frames(self, value: ir.Value, axis: int) -> None:
        """Take the number of frames of a chunk from an input."""
        shape = self.writer.op("Shape", [value])
        self.frames = self.writer.op("Gather", [shape, self._number(axis)])
        self.states[self.position] = self.writer.op("Add", [self.position, self.frames])
