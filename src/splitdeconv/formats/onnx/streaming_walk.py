"""A graph on the way to one in chunks: kept samples, delays, and zeros outside the signal, as nodes and inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.streaming import NEVER, NotStreamableError, Reach, Signal, SignalWalk
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.writer import END, Constants, Writer

_POSITION, _BEYOND = "stream_position", "stream_beyond"


@dataclass(eq=False)
class Walk(SignalWalk[ir.Value]):
    """A model on the way to one in chunks; its graph is changed.

    Attributes:
        model: it.
        shapes: of the whole model's values.
    """

    model: ir.Model
    shapes: Shapes

    def __post_init__(self) -> None:
        graph = self.model.graph
        names = {value.name or "" for each in (*graph, graph) for value in (*each.inputs, *each.outputs) if value}
        names |= {node.name or "" for node in graph} | set(graph.initializers)
        self._constants = Constants(graph, self.model.ir_version, names)
        self._masks: dict[object, ir.Value] = {}
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
        axis, shape = self.signals[value].axis, list(self.shape(value))
        if reach.past:
            shape[axis] = reach.past
            state = self._input(f"stream_state_{value.name}", self._dtype(value), tuple(shape))
            read = self.writer.op("Concat", [state, value], {"axis": axis})
            self.past = max(self.past, Fraction(reach.past) / self.signals[value].rate)
            self.states[state] = self._slice(read, axis, -reach.past, END)
        else:
            read = value
        return read if not reach.skip and not reach.drop else self._slice(read, axis, reach.skip, -reach.drop or END)

    def _slice(self, value: ir.Value, axis: int, start: int, end: int) -> ir.Value:
        lists = [self.writer.integers("slice", [number]) for number in (start, end, axis)]
        return self.writer.op("Slice", [value, *lists])

    def zeros_outside(self, value: ir.Value) -> ir.Value:
        signal, dtype = self.signals[value], self._dtype(value)
        mask = self._mask(signal, self.rank(value) - signal.axis - 1)
        return self.writer.op("Where", [mask, value, self.writer.array("zero", np.zeros((), dtype.numpy()))])

    def follow(self, made: ir.Value, source: ir.Value) -> None:
        by_name = {**self.shapes.by_name, made.name or "": self.shape(source)}
        self.shapes = replace(self.shapes, by_name=by_name)
        made.type = source.type

    def _dtype(self, value: ir.Value) -> ir.DataType:
        return value.dtype or self.shapes.type_of(value) or ir.DataType.FLOAT

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
            self._masks[key] = self.writer.op("Where", [known, end, self._number(NEVER)])
        return self._masks[key]

    def count_frames(self, value: ir.Value, axis: int) -> None:
        """Take the number of frames of a chunk from an input."""
        shape = self.writer.op("Shape", [value])
        self.frames = self.writer.op("Gather", [shape, self._number(axis)])
        self.states[self.position] = self.writer.op("Add", [self.position, self.frames])
