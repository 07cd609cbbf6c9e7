"""How many operators a program or module has, and what memory the maps of a program take."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from splitdeconv.formats.alive import GraphStep, peak_bytes
from splitdeconv.formats.torch.sizes import Sizes
from splitdeconv.torch_modules.flat import user_inputs


def operator_counts(module: nn.Module) -> Counter[str]:
    """Of each operator, in all graphs; of modules that are no graphs, their layers by class."""
    if isinstance(module, fx.GraphModule):
        graphs = [each for each in module.modules() if isinstance(each, fx.GraphModule)]
        return Counter(name for each in graphs for name in _called(each))
    return Counter(type(each).__name__ for each in module.modules() if not list(each.children()))


def _called(module: fx.GraphModule) -> Iterator[str]:
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target is not operator.getitem:
            yield str(getattr(node.target, "overloadpacket", getattr(node.target, "__name__", node.target)))
        elif node.op == "call_module":
            yield type(module.get_submodule(node.target)).__name__


def map_bytes(program: ExportedProgram, sizes: Sizes) -> int | None:
    """The most bytes of the program's tensors at once; None where a size is open."""
    given = set(user_inputs(program))
    nodes = [node for node in program.graph.nodes if node.op == "call_function" or node.name in given]
    found = {node: _bytes(node, sizes) for node in nodes}
    known = {node: size for node, size in found.items() if size is not None}
    if len(known) < len(found):
        return None
    steps = [
        GraphStep(tuple(node.all_input_nodes), {node: known[node]}, is_view=_is_view(node.target))
        for node in nodes
        if node.op == "call_function"
    ]
    inputs = {node: known[node] for node in nodes if node.name in given}
    return peak_bytes(inputs, steps, program.graph.output_node().all_input_nodes)


def _is_view(target: Any) -> bool:
    return target is operator.getitem or bool(getattr(target, "is_view", False))


def _bytes(node: fx.Node, sizes: Sizes) -> int | None:
    """Of all tensors that a node gives."""
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return _bytes_of(value, sizes.of(node))
    parts = value if isinstance(value, tuple | list) else ()
    each = [_bytes_of(part, tuple(part.shape)) for part in parts if isinstance(part, Tensor)]
    return None if None in each else sum(size or 0 for size in each)


def _bytes_of(tensor: Tensor, shape: tuple[Any, ...]) -> int | None:
    known = all(isinstance(size, int) for size in shape)
    return int(math.prod(shape) * tensor.dtype.itemsize) if known else None
