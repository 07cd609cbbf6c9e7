"""Where the elements of a map go in a graph: nodes that only move data, run by PyTorch on the elements' numbers.

Element ``n`` is ``n + 1`` there, in float64; what the model fills with zero is 0, and with anything else ``OTHER``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.joined import JoinedPart
from splitdeconv.formats.stretched import way_back
from splitdeconv.formats.torch.constants import StoredTensors

CatPart = JoinedPart[fx.Node, fx.Node]

OTHER = -1.0
UPSAMPLING = ("upsample_nearest", "_upsample_nearest_exact")  # how the names of these operators begin
_MOVING = frozenset(
    [
        *("alias", "cat", "clone", "constant_pad_nd", "contiguous", "copy_", "detach", "expand", "flatten", "index"),
        *("index_select", "movedim", "pad", "permute", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d", "replication_pad3d", "reshape"),
        *("select", "select_scatter", "slice", "slice_scatter", "squeeze", "stack", "transpose", "unflatten"),
        *("unsqueeze", "view", "_unsafe_view"),
    ]
)
VIEWS = frozenset(
    ["alias", "detach", "expand", "permute", "select", "slice", "squeeze", "transpose", "unsqueeze", "view"]
)
_FILLED = ("zeros", "new_zeros", "zeros_like")
# of one map and numbers; with an underscore behind its name each also works in place
_ELEMENT_WISE = frozenset(
    [
        *("abs", "celu", "clamp", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "neg"),
        *("relu", "relu6", "selu", "sigmoid", "silu", "softplus", "sqrt", "tanh"),
    ]
)


def name_of(node: fx.Node) -> str:
    """The operator's name, without its overload."""
    return node.target.overloadpacket.__name__ if isinstance(node.target, torch._ops.OpOverload) else ""


def is_element_wise(node: fx.Node) -> bool:
    """Whether each element of its output comes from that of its input alone."""
    return name_of(node).removesuffix("_") in _ELEMENT_WISE and len(node.all_input_nodes) == 1


def works_in_place(node: fx.Node) -> bool:
    """Whether it changes its first argument."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def stretches(nodes: Sequence[fx.Node]) -> bool:
    """Whether nodes on the way to a convolution can make a map larger."""
    larger = (
        "cat",
        "constant_pad_nd",
        "copy_",
        "expand",
        "index",
        "index_select",
        "pad",
        "repeat",
        "repeat_interleave",
    )
    names = {name_of(node) for node in nodes}
    return any(name in (*larger, "slice_scatter", "stack") or name.startswith(UPSAMPLING) for name in names)


class MovedGraph:
    """A program's graph, and which of its nodes hold maps that depend on its inputs.

    Args:
        graph: of the program; nodes are looked at as they are when the object is made.
        constants: of the program.
    """

    def __init__(self, graph: fx.Graph, constants: StoredTensors) -> None:
        self.constants = constants
        self.order = {node: number for number, node in enumerate(graph.nodes)}
        self._writers: dict[fx.Node, list[fx.Node]] = {}
        for node in self.order:
            if works_in_place(node):
                self._writers.setdefault(viewed(node.args[0]), []).append(node)
        self._fixed: set[fx.Node] = set()
        for node in self.order:
            if self._holds_no_input(node):
                self._fixed.add(node)

    def maps(self, node: fx.Node, part: CatPart | None = None) -> tuple[fx.Node, ...]:
        """What ``node`` takes its elements from, of its ``part`` alone if that is given; nothing where it does more."""
        name = name_of(node)
        if part is not None and node is part.concat:
            return (part.value, *self._written(part.value, node))
        if name in _FILLED or not (name in _MOVING or name.startswith(UPSAMPLING) or is_element_wise(node)):
            return ()
        return self._sources(node)

    def _sources(self, node: fx.Node) -> tuple[fx.Node, ...]:
        tensors = [each for each in node.all_input_nodes if isinstance(each.meta.get("val"), Tensor)]
        return tuple(each for each in (*tensors, *self.writers(node)) if each not in self._fixed)

    def writers(self, node: fx.Node) -> list[fx.Node]:
        """What has been written into the memory that ``node`` reads, since it was given and before it is read."""
        found = chain.from_iterable(self._written(each, node) for each in node.all_input_nodes)
        return list(dict.fromkeys(found))

    def _holds_no_input(self, node: fx.Node) -> bool:
        if node.op == "placeholder":
            return self.constants.value(node) is not None
        is_operator = isinstance(node.target, torch._ops.OpOverload)
        return name_of(node) in _FILLED or (is_operator and not self._sources(node))

    def sources(
        self, x: fx.Node, reader: fx.Node, most: int, part: CatPart | None = None
    ) -> Iterator[tuple[fx.Node, tuple[fx.Node, ...]]]:
        """Every node through which all goes that ``reader`` reads of ``x``, the nearest first, and those from there."""
        first = [each for each in (x, *self._written(x, reader)) if each not in self._fixed]

        def latest(maps: Collection[fx.Node]) -> fx.Node:
            return max(maps, key=self.order.__getitem__)

        for source, nodes in way_back(first, latest, lambda node: self.maps(node, part), lambda node: (node,), most):
            if not self._written(source, reader):
                yield source, nodes

    def _written(self, node: fx.Node, reader: fx.Node) -> list[fx.Node]:
        """What writes into the memory of ``node`` behind it and before ``reader``."""
        writers = self._writers.get(viewed(node), ())
        return [each for each in writers if self.order[node] < self.order[each] < self.order[reader]]


def viewed(node: Any) -> Any:
    """The node whose memory ``node`` shows."""
    while isinstance(node, fx.Node) and (name_of(node) in VIEWS or works_in_place(node)):
        node = node.args[0]
    return node


class ExportedMovement:
    """One run over definite sizes.

    Args:
        graph: of the program.
        size_of: definite value of a size, which may be a symbol.
        shape: of the source.
        part: which part of ``cat`` comes from the source; of the others nothing is told. None where all does.
    """

    def __init__(
        self,
        graph: MovedGraph,
        size_of: Callable[[Any], int],
        source: fx.Node,
        shape: Sequence[int],
        part: CatPart | None = None,
    ) -> None:
        self._graph, self._size_of, self._part = graph, size_of, part
        numbers = torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64).reshape(tuple(shape))
        self._known: dict[fx.Node, Any] = {source: numbers}
        self._constants: dict[fx.Node, Any] = {}

    def run(self, nodes: Sequence[fx.Node], x: fx.Node) -> Array:
        """The numbers that arrive in ``x``, −1 for zeros and −2 for anything else.

        Raises:
            Exception: of PyTorch, where the nodes do not take these sizes.
        """
        for node in reversed(nodes):
            self._known[node] = self._moved(node)
        numbers: Array = self._of(x).numpy().astype(np.int64) - 1
        return numbers

    def _moved(self, node: fx.Node) -> Tensor:
        if self._part is not None and node is self._part.concat:
            return torch.clone(self._of(self._part.value))
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), self._of)
        name = name_of(node)
        if is_element_wise(node):
            if works_in_place(node) and viewed(node) is not node.args[0]:
                raise ValueError("a part of a map is changed")
            kept = not torch.any(plain_target(node)(torch.zeros(1), *args[1:], **kwargs))
            if kept:
                return args[0]
            changed = args[0] if works_in_place(node) else args[0].clone()
            return changed.masked_fill_(changed == 0, OTHER)
        value = _padding(name, args, kwargs)
        if value and name == "constant_pad_nd":
            args = (*args[:2], OTHER)
        elif value:
            args, kwargs = (*args[:2], "constant", OTHER), {}
        found: Tensor = node.target(*args, **kwargs)
        if name == "copy_":
            memory = viewed(node.args[0])
            self._known.setdefault(memory, self._constants.get(memory))
        return found

    def _of(self, node: fx.Node) -> Any:
        """What a node is in this run; of a constant map which elements are not zero."""
        if node in self._known:
            return self._known[node]
        found = self._constant(node)
        if isinstance(found, Tensor) and found.is_floating_point() and found.any():
            return torch.where(found == 0, 0.0, OTHER).to(torch.float64)
        return found  # not a copy of it: what is written into zeros is read from them later

    def _constant(self, node: fx.Node) -> Any:
        """What a node that depends on sizes alone holds."""
        if node not in self._constants:
            self._constants[node] = self._computed(node)
        return self._constants[node]

    def _computed(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return self._size_of(value)
        if name_of(node) in _FILLED:
            return torch.zeros([self._size_of(size) for size in value.shape], dtype=torch.float64)
        stored = self._graph.constants.value(node) if name_of(node) not in VIEWS else None
        if stored is not None:
            return stored
        return node.target(*fx.map_arg(node.args, self._constant), **fx.map_arg(dict(node.kwargs), self._constant))


def _padding(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """What a node pads with, or nothing."""
    if name == "constant_pad_nd":
        return args[2] if len(args) > 2 else kwargs.get("value")
    if name != "pad" or (args[2] if len(args) > 2 else kwargs.get("mode", "constant")) != "constant":
        return None
    return args[3] if len(args) > 3 else kwargs.get("value")


def plain_target(node: fx.Node) -> Any:
    """The operator of an element-wise node; that which leaves its input as it is where the node works in place."""
    plain = getattr(torch.ops.aten, name_of(node).removesuffix("_"))
    return getattr(plain, node.target._overloadname)
