"""Sizes that a rewritten model computes when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Dim
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.writer import GraphWriter

_INT32 = tfl.TensorT(type=tfl.TensorType.INT32)


class SizeWriter:
    """Writes vectors of sizes for one site; ``name`` is the site's."""

    def __init__(self, writer: GraphWriter, name: str) -> None:
        self.writer, self.name = writer, name

    def constant(self, values: Any) -> int:
        """A constant int32 vector or matrix."""
        return self.writer.constant(np.asarray(values, np.int32), f"{self.name}/sizes")

    def of(self, tensor: int, rank: int, dims: Sequence[Dim], more: Sequence[int] = ()) -> int:
        """The sizes ``dims``, of the ``rank`` axes of ``tensor``, and ``more`` on each.

        After: SHAPE; CONCATENATION with a 1, the size of what belongs to no axis; GATHER; MUL; FLOOR_DIV; ADD.
        """
        shape = self._add(Builtin.SHAPE, [tensor], rank, tfl.ShapeOptionsT(outType=tfl.TensorType.INT32))
        options = tfl.ConcatenationOptionsT(axis=0)
        longer = self._add(Builtin.CONCATENATION, [shape, self.constant([1])], rank + 1, options)
        places = [rank if dim.axis is None else dim.axis for dim in dims]
        sizes = self._add(Builtin.GATHER, [longer, self.constant(places)], len(dims), tfl.GatherOptionsT())
        factors, divisors = [dim.times for dim in dims], [dim.over for dim in dims]
        if max(factors) > 1:
            sizes = self._add(Builtin.MUL, [sizes, self.constant(factors)], len(dims), tfl.MulOptionsT())
        if max(divisors) > 1:
            sizes = self._add(Builtin.FLOOR_DIV, [sizes, self.constant(divisors)], len(dims), tfl.FloorDivOptionsT())
        if any(more):
            sizes = self._add(Builtin.ADD, [sizes, self.constant(more)], len(dims), tfl.AddOptionsT())
        return sizes

    def _add(self, builtin: int, inputs: Sequence[int], size: int, options: Any) -> int:
        made = self.writer.tensor(_INT32, (size,), f"{self.name}/computed")
        self.writer.operator(builtin, 1, inputs, [made], options)
        return made
