"""Sizes in an exported program, those that the user gives among them, and its work besides the deconvs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.utils.flop_counter import FlopCounterMode

from splitdeconv.errors import InputError
from splitdeconv.torch_modules.flat import first_line, user_inputs

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shapes of a program's tensors.

    Attributes:
        shapes: node → shape, its open sizes None.
        other_macs: multiply-accumulates of everything but the deconvs, or None where sizes are open.
    """

    shapes: Mapping[str, Shape]
    other_macs: int | None = None

    def of(self, node: fx.Node) -> Shape:
        """The shape of what a node gives."""
        return self.shapes[node.name]


def sizes_of(program: ExportedProgram, in_shapes: Mapping[str, tuple[int, ...]], deconvs: Collection[fx.Node]) -> Sizes:
    """The sizes for inputs of ``in_shapes``, as the program states them for the others, and the work but ``deconvs``.

    Raises:
        InputError: the program does not take inputs of these shapes.
    """
    stated = {node.name: _stated(node.meta.get("val")) for node in program.graph.nodes}
    shapes = {name: in_shapes.get(name, stated[name]) for name in user_inputs(program)}
    if any(None in shape for shape in shapes.values()):
        return Sizes(stated)
    try:
        run = _Run(program, shapes, deconvs)
    except Exception as error:  # assertions of the program about its sizes, and operators that have no shapes
        given = ", ".join(f"{name}={'×'.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"the model does not take inputs of {given} ({first_line(error)})") from None
    return Sizes(run.shapes, run.other_flops // 2)


def _stated(value: Any) -> Shape:
    sizes = value.shape if isinstance(value, Tensor) else ()
    return tuple(size if isinstance(size, int) else None for size in sizes)


class _Run(fx.Interpreter):
    """The program on tensors that have shapes and no values."""

    def __init__(self, program: ExportedProgram, in_shapes: Mapping[str, Shape], deconvs: Collection[fx.Node]) -> None:
        super().__init__(program.graph_module)
        self.shapes: dict[str, Shape] = {}
        self.other_flops = 0
        self._deconvs = deconvs
        with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
            self._counter = counter
            given = [
                _empty(node.meta.get("val"), in_shapes.get(node.name))
                for node in program.graph.nodes
                if node.op == "placeholder"
            ]
            self.run(*given)

    def run_node(self, n: fx.Node) -> Any:
        """Its result; the shape is kept, and the work counted, but for deconvs."""
        before = self._counter.get_total_flops()
        found = super().run_node(n)
        if n not in self._deconvs:
            self.other_flops += self._counter.get_total_flops() - before
        self.shapes[n.name] = tuple(found.shape) if isinstance(found, Tensor) else ()
        return found


def _empty(value: Any, shape: Shape | None) -> Any:
    """A placeholder's value for the run; of the stated shape where no other is given."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty([int(size or 0) for size in shape or value.shape], dtype=value.dtype, device=value.device)
