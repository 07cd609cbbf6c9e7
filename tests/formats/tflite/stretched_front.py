"""Writes what stands in front of a convolution, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from tests.tflite_models import Tree, quant

DEFAULT_KERNEL = (3, 3)
Sizes = Sequence[int]
X_UNIT, W_SCALE = quant(0.5, 3), 0.25
ZERO_POINT = 3


class Front:
    """Writes operators from a map towards a convolution, and runs them in NumPy at the same time for their shapes.

    Attributes:
        tree: the model.
        value: the latest tensor.
        shape: of it.
    """

    def __init__(self, dtype: str, shape: Sizes, unit: Any, *, open_batch: bool = False) -> None:
        self.tree, self.dtype, self.unit, self.open_batch = Tree(), dtype, unit, open_batch
        self.shape = tuple(shape)
        self.value = self.x = self._tensor(self.shape, "x")

    def _tensor(self, shape: Sizes, name: str) -> int:
        made = self.tree.tensor(self.dtype, shape, name, self.unit)
        if self.open_batch:
            self.tree.graph.tensors[made].shapeSignature = np.asarray([-1, *shape[1:]], np.int32)
        return made

    def ints(self, values: Any) -> int:
        """A constant of int32."""
        return self.tree.tensor("int32", np.shape(values), "sizes", values=values)

    def op(self, name: str, shape: Sizes, *others: int, options: Any = None, at: int = 0, version: int = 1) -> None:
        """One operator on the latest tensor, which is operand ``at``."""
        operands = list(others)
        operands.insert(at, self.value)
        self.shape = tuple(shape)
        self.value = self._tensor(self.shape, f"{name.lower()}{self.value}")
        self.tree.operator(name, version, operands, self.value, options)

    def reshape(self, *shape: int) -> None:
        """To a fixed shape, or with an open batch to one that is computed."""
        sizes = self.batch_and(shape[1:]) if self.open_batch else self.ints(shape)
        self.op("RESHAPE", shape, sizes, options=tfl.ReshapeOptionsT())

    def batch_and(self, sizes: Sizes) -> int:
        """A shape whose batch is that of ``x``: SHAPE, STRIDED_SLICE, CONCATENATION."""
        whole, batch = self.tree.tensor("int32", (4,), "shape"), self.tree.tensor("int32", (1,), "batch")
        self.tree.operator("SHAPE", 1, [self.x], whole, tfl.ShapeOptionsT(outType=tfl.TensorType.INT32))
        bounds = [self.ints([bound]) for bound in (0, 1, 1)]
        self.tree.operator("STRIDED_SLICE", 1, [whole, *bounds], batch, tfl.StridedSliceOptionsT())
        found = self.tree.tensor("int32", (len(sizes) + 1,), "computed")
        options = tfl.ConcatenationOptionsT(axis=0)
        self.tree.operator("CONCATENATION", 1, [batch, self.ints(list(sizes))], found, options)
        return found

    def zero(self) -> int:
        """A constant that stands for 0."""
        return self.tree.tensor(self.dtype, (), "zero", self.unit, 0 if self.unit is None else ZERO_POINT)
