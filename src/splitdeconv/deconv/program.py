"""A program: operations in order, from the deconv's input to its output."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Conv,
    Interpolate,
    Layout,
    NativeDeconv,
    Op,
    Pad,
    Reshape,
    Shape,
    Spread,
)
from splitdeconv.deconv.spec import Deconv


@dataclass(frozen=True, slots=True)
class Step:
    """An operation ``op`` and the values ``inputs`` that it reads."""

    op: Op
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Steps from the deconv's input ``x`` (value 0), and maybe further inputs, to its output (the last value).

    Attributes:
        deconv: what the program computes.
        layout: of input and output.
        steps: in order; step ``n`` makes value ``len(in_shapes) + n``.
        name: of the candidate that it came from.
        quant: the candidate's way to write quantised convolutions, or empty.
        inserts_zeros: whether its convolution multiplies by zeros between the input's pixels.
        inputs: shapes of further inputs, which are the values 1, 2, and so on; in the program's own layout.
    """

    deconv: Deconv
    layout: Layout
    steps: tuple[Step, ...]
    name: str = ""
    quant: str = ""
    inserts_zeros: bool = False
    inputs: tuple[Shape, ...] = ()

    @property
    def output(self) -> int:
        """Number of the output value."""
        return len(self.inputs) + len(self.steps)

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        """Shapes of all inputs, the deconv's own first."""
        return (self.in_shape, *self.inputs)

    @property
    def in_shape(self) -> Shape:
        """Shape of the input in the program's layout."""
        sizes, channels = self.deconv.in_sizes, self.deconv.in_channels
        batch = self.deconv.batch
        return (batch, channels, *sizes) if self.layout == "NCHW" else (batch, *sizes, channels)

    def shapes(self, *in_shapes: Shape) -> tuple[Shape, ...]:
        """Shape of every value, for the program's own input shapes or others."""
        shapes = list(in_shapes or self.in_shapes)
        for step in self.steps:
            shapes.append(step.op.shape(*(shapes[value] for value in step.inputs)))
        return tuple(shapes)

    def without_last_reshape(self) -> Program:
        """The program without a reshape at its end, for timing where reshapes are free inside of a model.

        At the end of a model of its own a runtime copies for it, because a model's output has its own memory.
        Element-wise work that must come last keeps the reshape.
        """
        if not self.steps or not isinstance(self.steps[-1].op, Reshape) or self.output in self.sums():
            return self
        return replace(self, steps=self.steps[:-1])

    def macs(self) -> int:
        """Multiply-accumulates of the whole program; unknown sizes of the input count as 1.

        What has the output's sizes, maps beside a stretched one and those with inserted zeros, then has a stride's.
        """
        counted = sum(step.op.macs(*inputs) for step, inputs in self._with_shapes())
        pixels = math.prod(axis.stride for axis in self.deconv.axes if axis.in_size is None)
        if self.inserts_zeros:
            return counted * pixels
        if any(isinstance(step.op, NativeDeconv) and not step.op.simplified for step in self.steps):
            return counted
        return counted + self.deconv.beside_macs() * (pixels - 1) // pixels

    def moved(self) -> int:
        """Elements of maps that the data movement around the convolutions reads and writes."""
        arithmetic = (Conv, NativeDeconv, Spread)
        return sum(
            step.op.moved(*inputs) for step, inputs in self._with_shapes() if not isinstance(step.op, arithmetic)
        )

    def _with_shapes(self) -> Iterator[tuple[Step, Sequence[Shape]]]:
        shapes = self.shapes()
        for step in self.steps:
            yield step, [shapes[value] for value in step.inputs]

    def sums(self) -> tuple[int, ...]:
        """Values that hold complete sums, and between which and the output there is only data movement.

        Element-wise work that follows the deconv may be done on them instead: once for each. Where something is added
        behind the convolutions, or zeros that stand for outputs, or blends of them, or where a skip connection's
        convolutions have some of the channels each, only the output is complete.
        """
        if self.inputs:
            return (self.output,)
        sums, made = list[int](), set[int]()
        for value, step in enumerate(self.steps, start=len(self.in_shapes)):
            behind = not made.isdisjoint(step.inputs)
            if isinstance(step.op, Add | AddBias | Spread) or (behind and isinstance(step.op, Pad | Interpolate)):
                return (self.output,)
            if isinstance(step.op, Conv | NativeDeconv):
                sums.append(value)
            if behind or isinstance(step.op, Conv | NativeDeconv):
                made.add(value)
        return tuple(sums)
