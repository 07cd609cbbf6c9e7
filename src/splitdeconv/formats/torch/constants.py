"""Tensors of an exported program that are the same in every run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

STORED = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
MUTATED = ("buffers_to_mutate", "parameters_to_mutate")


class StoredTensors:
    """Values of the nodes that read parameters alone, such as a weight under weight norm.

    Args:
        program: whose nodes are asked for.
    """

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        changed = {name for kind in MUTATED for name in getattr(signature, kind, {}).values()}
        self._stored = {
            spec.arg.name: program.state_dict.get(spec.target, program.constants.get(spec.target))
            for spec in signature.input_specs
            if spec.kind in STORED and spec.target not in changed
        }
        self._known: dict[str, Any] = {}

    def value(self, node: fx.Node) -> Tensor | None:
        """What ``node`` holds in every run; None where that depends on an input, on chance or on earlier runs."""
        if node.name not in self._known:
            self._known[node.name] = self._computed(node)
        found = self._known[node.name]
        return found if isinstance(found, Tensor) else None

    def _computed(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._stored.get(node.name)
        if not isinstance(node.target, torch._ops.OpOverload) or _is_impure(node.target):
            return None
        values = {each: self.value(each) for each in node.all_input_nodes}
        if any(value is None for value in values.values()):
            return None
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            return node.target(*args, **kwargs)


def _is_impure(target: Any) -> bool:
    """Whether an operator draws random numbers, or writes into its arguments."""
    return torch.Tag.nondeterministic_seeded in target.tags or target._schema.is_mutable
