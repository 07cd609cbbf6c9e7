"""Writing nodes into an ONNX graph: names, constants, and the differences between opsets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.ops import Dim, Shape
from splitdeconv.deconv.weights import Array

END = np.iinfo(np.int64).max  # Slice: up to the end, whatever the size


class Constants:
    """Where new constants of one graph go; equal ones are written once.

    Initializers in the model's own graph (and inputs too before IR version 4, which wanted that); Constant nodes in
    bodies and functions, whose inputs are fixed by the node that holds them.
    """

    def __init__(self, graph: ir.Graph | None, ir_version: int, taken: set[str]) -> None:
        self._graph = graph
        self._ir_version = ir_version
        self._taken = taken
        self._numbers: dict[str, int] = {}  # of each name, the last that was given out
        self._known: dict[Hashable, ir.Value] = {}

    @property
    def are_nodes(self) -> bool:
        """Whether they are Constant nodes of a body or function."""
        return self._graph is None

    def unique(self, name: str) -> str:
        """``name``, or ``name`` with the first free number."""
        found, number = name, self._numbers.get(name, 1)
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._numbers[name] = number
        self._taken.add(found)
        return found

    def add(self, name: str, key: Hashable, tensor: Callable[[], ir.TensorProtocol], nodes: list[ir.Node]) -> ir.Value:
        """The value for ``key``, made by ``tensor`` the first time; a node that is needed for it goes to ``nodes``."""
        if self._graph is None:
            node = ir.node("Constant", [], {"value": tensor()}, name=self.unique(name))
            node.outputs[0].name = self.unique(f"{name}_value")
            nodes.append(node)
            return node.outputs[0]
        if key not in self._known:
            self._known[key] = self._initializer(self.unique(name), tensor())
        return self._known[key]

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        assert self._graph is not None
        value = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
        self._graph.register_initializer(value)
        if self._ir_version < 4:
            self._graph.inputs.append(value)
        return value


class Writer:
    """Collects the nodes of one rewritten site.

    Attributes:
        nodes: in order.
        opset: version of the standard operators.
    """

    def __init__(self, site: str, opset: int, constants: Constants, notes: Mapping[str, str]) -> None:
        self.nodes: list[ir.Node] = []
        self.opset = opset
        self._site = site
        self._constants = constants
        self._notes = notes

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        notes: bool = False,
    ) -> ir.Value:
        """Append a node; returns its first output. ``notes`` keeps the original node's attributes in its metadata."""
        name = self._constants.unique(f"{self._site}/{op_type}")
        node = ir.node(op_type, inputs, attributes or {}, domain=domain, name=name)
        node.outputs[0].name = self._constants.unique(f"{name}_output")
        if notes:
            node.metadata_props.update(self._notes)
        self.nodes.append(node)
        return node.outputs[0]

    def copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], *, without: str = "") -> ir.Value:
        """Append a copy of a node of the model with other inputs, and without one of its attributes."""
        attributes = {attribute.name: attribute for attribute in node.attributes.values() if attribute.name != without}
        name = self._constants.unique(f"{self._site}/{node.name or node.op_type}")
        copied = ir.Node(node.domain, node.op_type, inputs, attributes.values(), name=name, doc_string=node.doc_string)
        copied.outputs[0].name = self._constants.unique(f"{name}_output")
        copied.metadata_props.update(node.metadata_props)
        self.nodes.append(copied)
        return copied.outputs[0]

    def copy_all(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> Sequence[ir.Value]:
        """As :meth:`copy`, with all outputs of the node."""
        attributes = {attribute.name: attribute for attribute in node.attributes.values()}
        name = self._constants.unique(f"{self._site}/{node.name or node.op_type}")
        count = len(node.outputs)
        copied = ir.Node(node.domain, node.op_type, inputs, attributes.values(), name=name, num_outputs=count)
        for output in copied.outputs:
            output.name = self._constants.unique(f"{name}_output")
        self.nodes.append(copied)
        return copied.outputs

    def repeat(self, value: ir.Value, factors: Sequence[int]) -> ir.Value:
        """Each element several times along each axis, by the operator of the opset for nearest upsampling."""
        scales = np.asarray(factors, np.float32)
        if self.opset < 9:
            return self.op("Upsample", [value], {"mode": "nearest", "scales": scales.tolist()})
        if self.opset < 11:
            return self.op("Resize" if self.opset == 10 else "Upsample", [value, self.array("scales", scales)])
        roi = self.array("roi", np.zeros(0, np.float32)) if self.opset < 13 else None
        attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", [value, roi, self.array("scales", scales)], attributes)

    def interpolate(self, value: ir.Value, how: Interpolation, shape: Shape) -> ir.Value:
        """A map of ``shape``, ``(N, C, *sizes)``, by Resize (from opset 11 on)."""
        attributes: dict[str, Any] = {"mode": how.kind, "coordinate_transformation_mode": how.coordinates}
        if how.kind == "cubic":
            attributes |= {"cubic_coeff_a": how.coefficient, "exclude_outside": int(how.excludes)}
        empty = self.array("none", np.zeros(0, np.float32)) if self.opset < 13 else None
        if how.scales:
            scales = self.array("scales", np.asarray([1, 1, *how.scales], np.float32))
            return self.op("Resize", [value, empty, scales], attributes)
        dims = (Dim(1, axis=0), Dim(1, axis=1), *map(Dim, how.sizes))
        known = [size for dim in dims if (size := dim.size(shape)) is not None]
        sizes = self.integers("sizes", known) if len(known) == len(dims) else self._run_time_sizes(value, dims, shape)
        return self.op("Resize", [value, empty, empty, sizes], attributes)

    def array(self, kind: str, array: Array) -> ir.Value:
        """A constant; whole numbers of bodies below opset 9, whose Constant has floats only, are cast."""
        if self._constants.are_nodes and self.opset < 9 and array.dtype.kind in "iu":
            number = ir.DataType.from_numpy(array.dtype)
            return self.op("Cast", [self.array(kind, array.astype(np.float64))], {"to": int(number)})
        content = array.dtype.str, array.shape, array.tobytes()
        return self._constants.add(f"{self._site}/{kind}", content, lambda: ir.Tensor(array), self.nodes)

    def lazy(
        self, kind: str, key: Hashable, make: Callable[[], Array], dtype: ir.DataType, shape: Sequence[int]
    ) -> ir.Value:
        """A constant that is only computed when the model is written."""

        def tensor() -> ir.LazyTensor:
            name = f"{self._site}/{kind}"
            return ir.LazyTensor(lambda: ir.Tensor(make(), dtype=dtype), dtype, ir.Shape(shape), name=name)

        return self._constants.add(f"{self._site}/{kind}", key, tensor, self.nodes)

    def integers(self, kind: str, values: Sequence[int]) -> ir.Value:
        """A constant list of int64."""
        return self.array(kind, np.asarray(values, np.int64))

    def reshape(self, value: ir.Value, dims: Sequence[Dim], source: Shape) -> ir.Value:
        """Reshape; sizes that are unknown here are copied, inferred or, where several are, computed at run time."""
        sizes = [0 if is_copy(index, dim) else dim.size(source) for index, dim in enumerate(dims)]
        if sizes.count(None) > 1:
            return self.op("Reshape", [value, self._run_time_sizes(value, dims, source)])
        known = [-1 if size is None else size for size in sizes]
        if self.opset < 5:
            return self.op("Reshape", [value], {"shape": known})
        return self.op("Reshape", [value, self.integers("shape", known)])

    def _run_time_sizes(self, value: ir.Value, dims: Sequence[Dim], source: Shape) -> ir.Value:
        """``source[axis]·times/over`` for each dim, and constants where the size is known."""
        known = [dim.size(source) for dim in dims]
        picked = self.integers("axes", [dim.axis or 0 for dim in dims])
        sizes = self.op("Gather", [self.op("Shape", [value]), picked])
        times = [dim.times if size is None else 0 for dim, size in zip(dims, known, strict=True)]
        sizes = self.op("Mul", [sizes, self.integers("times", times)])
        if any(dim.over > 1 for dim in dims):
            sizes = self.op("Div", [sizes, self.integers("over", [dim.over for dim in dims])])
        return self.op("Add", [sizes, self.integers("sizes", [size or 0 for size in known])])

    def pad(self, value: ir.Value, begin: Sequence[int], end: Sequence[int], content: Array | None = None) -> ir.Value:
        """``content`` (from opset 11 on), or zeros, around a value."""
        counts = [*begin, *end]
        if self.opset >= 11:
            filling = [] if content is None else [self.array("padding", content)]
            return self.op("Pad", [value, self.integers("pads", counts), *filling])
        return self.op("Pad", [value], {"pads" if self.opset >= 2 else "paddings": counts})

    def slice(self, value: ir.Value, begin: Sequence[int], end: Sequence[int]) -> ir.Value:
        """Cut elements from both ends of some axes."""
        axes = [axis for axis, counts in enumerate(zip(begin, end, strict=True)) if any(counts)]
        starts = [begin[axis] for axis in axes]
        ends = [-end[axis] if end[axis] else END for axis in axes]
        if self.opset >= 10:
            lists = [self.integers("starts", starts), self.integers("ends", ends), self.integers("axes", axes)]
            return self.op("Slice", [value, *lists])
        return self.op("Slice", [value], {"starts": starts, "ends": ends, "axes": axes})


def take_over(old: ir.Value, new: ir.Value) -> None:
    """The new output keeps the old one's name, type, shape and notes."""
    new.name, new.type, new.shape, new.doc_string = old.name, old.type, old.shape, old.doc_string
    new.metadata_props.update(old.metadata_props)


def is_copy(index: int, dim: Dim) -> bool:
    """Whether a Reshape's dim is the input's size at the same place, which ONNX writes as 0."""
    return dim.axis == index and dim.times == dim.over


def run_time_dims(dims: Sequence[Dim], source: Shape) -> int:
    """How many sizes of a Reshape are neither known, nor copied."""
    return sum(dim.size(source) is None and not is_copy(index, dim) for index, dim in enumerate(dims))
