"""Functional ``conv_transpose*`` calls in graphs: those of ``torch.export``, of PT2E quantisation, and traced ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from splitdeconv.deconv.spec import WeightName
from splitdeconv.torch_modules.functions import Geometry
from splitdeconv.torch_modules.layers import SeenLayer, layer_of
from splitdeconv.torch_modules.modules import SplitCall
from splitdeconv.torch_modules.native import DECONVS
from splitdeconv.torch_modules.observe import call_arguments

ATEN = torch.ops.aten
OPEN = "its weights are computed, and of a shape or in groups that are not fixed (export with a fixed batch)"
RANKS: dict[Any, int] = {
    **dict(zip(DECONVS, (1, 2, 3), strict=True)),
    ATEN.conv_transpose1d.default: 1,
    ATEN.conv_transpose2d.input: 2,
    ATEN.conv_transpose3d.input: 3,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One ``conv_transpose*`` node of a graph.

    Attributes:
        node: the call.
        x, weight, bias: its inputs.
        geometry: its numbers.
        owner: the module of the exported source that made it, or empty.
    """

    node: fx.Node
    x: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    geometry: Geometry
    owner: str = ""

    @property
    def name(self) -> str:
        """For reports: the source module and the node."""
        return f"{self.owner}:{self.node.name}" if self.owner else str(self.node.name)

    @property
    def parameters(self) -> tuple[WeightName, ...]:
        """What it reads beside its map."""
        return ("kernel",) if self.bias is None else ("kernel", "bias")

    @property
    def is_open(self) -> bool:
        """Whether its groups, or sizes of its weight, are known only in a run."""
        weight = value_of(self.weight)
        numbers = (self.geometry.groups, *(() if weight is None else weight.shape))
        return not all(isinstance(each, int) for each in numbers)

    def layer(self) -> SeenLayer | None:
        """The call with the sizes that were traced, or None for a graph without shapes."""
        x, weight = value_of(self.x), value_of(self.weight)
        if x is None or weight is None:
            return None
        return layer_of(x.shape, weight, self.bias is not None, self.geometry)


def find_calls(module: fx.GraphModule) -> Iterator[Call]:
    """All transposed convolutions of a graph, in its order; each as it is when it is reached."""
    for node in list(module.graph.nodes):
        call = _call(node)
        if call is not None:
            yield call


def replace_call(module: fx.GraphModule, call: Call, lowering: str | None) -> None:
    """Let a :class:`SplitCall` compute the node; the parameters stay where they are."""
    graph = module.graph
    name = _free_name(module, f"split_{call.node.name}")
    split = SplitCall(call.geometry, lowering)
    split.training = False  # exported modules have no modes; gradients are looked at in each call
    module.add_submodule(name, split)
    with graph.inserting_before(call.node):
        new = graph.call_module(name, (call.x, call.weight, call.bias))
    new.meta.update(call.node.meta)
    call.node.replace_all_uses_with(new)
    graph.erase_node(call.node)


def add_buffer(module: fx.GraphModule, wanted: str, tensor: torch.Tensor) -> fx.Node:
    """A node that reads ``tensor``, which becomes a buffer of the module."""
    name = _free_name(module, wanted)
    module.register_buffer(name, tensor.detach().contiguous())
    return module.graph.get_attr(name)


def finish(module: fx.GraphModule) -> None:
    """Drop what nobody reads any more, stored integers included, check the graph, and make its code anew."""
    before = _read_attributes(module)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    buffers = dict(module.named_buffers())
    for path in before - _read_attributes(module):
        owner, _, name = path.rpartition(".")
        if path in buffers:
            delattr(module.get_submodule(owner), name)


def _read_attributes(module: fx.GraphModule) -> set[str]:
    return {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}


def _call(node: fx.Node) -> Call | None:
    if node.op != "call_function":
        return None
    if node.target == ATEN.convolution.default and node.args[6]:
        x, weight, bias, stride, padding, dilation, _, output_padding, groups = node.args
        geometry = Geometry(tuple(stride), tuple(padding), tuple(output_padding), groups, tuple(dilation))
        return Call(node, x, weight, bias, geometry, owner_of(node))
    if node.target not in RANKS:
        return None
    x, weight, bias, geometry = call_arguments(node.args, node.kwargs, RANKS[node.target])
    return Call(node, x, weight, bias, geometry, owner_of(node))


def owner_of(node: fx.Node) -> str:
    """The innermost module of the source in whose forward the node was made."""
    stack: Mapping[str, Sequence[Any]] = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1].removeprefix("L['self'].") if paths else ""


def value_of(node: fx.Node) -> Any:
    """The tensor that a node reads from the module, or the one that was traced; None where there are no shapes."""
    if node.op == "get_attr":
        return attribute(node.graph.owning_module, str(node.target))
    return node.meta.get("val")


def attribute(module: Any, path: str) -> Any:
    """What a dotted path of a ``get_attr`` node stands for."""
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _free_name(module: fx.GraphModule, wanted: str) -> str:
    names: Iterator[str] = iter([wanted, *(f"{wanted}_{number}" for number in range(1, 10_000))])
    return next(name for name in names if not hasattr(module, name))
