"""A model as targets call it: named tensors in, tensors out, whatever its own arguments and results look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Flat(nn.Module):
    """A module with its inputs in a row.

    Args:
        module: what is called.
        names: of the tensors among its arguments, in order; empty for a module that takes tensors in any number.
        arguments: from the tensors to positional and named arguments; None for the tensors themselves.
    """

    def __init__(
        self, module: nn.Module, names: Sequence[str] = (), arguments: Callable[[Sequence[Tensor]], Call] | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)
        self.arguments = arguments

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors among the results, in order."""
        args, kwargs = (tensors, {}) if self.arguments is None else self.arguments(tensors)
        return tuple(each for each in tree_leaves(self.module(*args, **kwargs)) if isinstance(each, Tensor))

    @property
    def nbytes(self) -> int:
        """Bytes of its parameters and buffers."""
        return sum(
            each.nbytes for each in (*self.parameters(), *self.buffers()) if not torch.nn.parameter.is_lazy(each)
        )

    def train(self, mode: bool = True) -> Any:
        """As in PyTorch; exported modules inside, which refuse modes, only get the flags."""
        try:
            return super().train(mode)
        except NotImplementedError:
            for each in self.modules():
                each.training = mode
            return self


def with_example(module: nn.Module, example_inputs: Sequence[Any]) -> tuple[Flat, dict[str, Tensor]]:
    """``module`` for arguments as in ``example_inputs``, and their tensors by name."""
    leaves, spec = tree_flatten((tuple(example_inputs), {}))
    tensors = {f"input{place}": leaf for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    fixed = {place: leaf for place, leaf in enumerate(leaves) if not isinstance(leaf, Tensor)}
    return Flat(module, tuple(tensors), _packer(fixed, spec)), tensors


def positional(example_inputs: Sequence[Any] | Tensor) -> tuple[Any, ...]:
    """Example inputs as positional arguments; a tensor is the only one."""
    return (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)


def of_program(program: ExportedProgram) -> Flat:
    """An exported program; its inputs keep their names."""
    names = user_inputs(program)
    given = program.graph_signature.user_inputs
    fixed = {place: each for place, each in enumerate(given) if each not in names}
    # PyTorch's guards are code that a file may have brought.
    return Flat(program.module(check_guards=False), names, _packer(fixed, program.call_spec.in_spec))


def _packer(fixed: Mapping[int, Any], spec: TreeSpec) -> Callable[[Sequence[Tensor]], Call]:
    """From tensors to the arguments that ``spec`` describes; ``fixed`` has those that are no tensors, by place."""

    def arguments(tensors: Sequence[Tensor]) -> Call:
        rest = iter(tensors)
        leaves = [fixed[place] if place in fixed else next(rest) for place in range(spec.num_leaves)]
        args, kwargs = tree_unflatten(leaves, spec)
        return args, kwargs

    return arguments


def user_inputs(program: ExportedProgram) -> tuple[str, ...]:
    """Names of the tensors that a caller of the program supplies."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    given = program.graph_signature.user_inputs
    return tuple(each for each in given if isinstance(each, str) and isinstance(values.get(each), Tensor))


def first_line(error: Exception) -> str:
    """What an error of PyTorch, or of a user's own code, says, without its context."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
