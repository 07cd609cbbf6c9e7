"""Programs as PyTorch operations: one routine for each deconv and candidate, from one table.

A routine works on maps in PyTorch's order ``(N, C, *sizes)``; an NHWC program sees them through a permuted view, which
costs nothing where the memory format is channels-last already. No operation depends on sizes, so one routine serves
all of them, symbolic ones included. Lowerings for weights of a special structure are left out: parameters change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import torch
from torch import Tensor

from splitdeconv.deconv.ops import (
    AddBias,
    Concat,
    Conv,
    DepthToSpace,
    Layout,
    NativeDeconv,
    Op,
)
from splitdeconv.deconv.program import Program, Step
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.native import as_written
from splitdeconv.torch_modules import assemble, native, packed
from splitdeconv.torch_modules.axes import channels_innermost, to_nchw, to_nhwc
from splitdeconv.torch_modules.filters import bias_split, composite_split, filter_split
from splitdeconv.torch_modules.native import Apply
from splitdeconv.torch_modules.operators import APPLY, APPLY_COMPILED, APPLY_EAGER

Filters = tuple[Tensor | None, ...]
Operation = tuple[Apply, tuple[int, ...]]

ARITHMETIC = (Conv, NativeDeconv, AddBias)  # what takes a filter, a bias, or both

FormLayout = Literal["NCHW", "NHWC", "NHWC-NCHW"]


@dataclass(frozen=True, slots=True)
class Form:
    """A candidate together with the layout that its program works in; written ``split_rows@NHWC``.

    In ``NHWC-NCHW`` the convolutions work on channels-last memory, and the rearrangement brings the map into contiguous
    memory on its way.
    """

    candidate: Candidate
    layout: FormLayout

    def __str__(self) -> str:
        return f"{self.candidate}@{self.layout}"

    @property
    def program_layout(self) -> Layout:
        """The layout that the program is written for: that of its output."""
        return "NHWC" if self.layout == "NHWC" else "NCHW"


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """A lowered deconv in PyTorch.

    Attributes:
        program: what it interprets.
        split: from the parameters (weight IOHW, bias or None) to the tensors that :attr:`apply` takes: filter and
            bias of each arithmetic operation.
        pack: from those tensors and an input shape ``(N, C, *sizes)`` to the same in oneDNN's order, see
            :mod:`splitdeconv.torch_modules.packed`; None where the form does not work on channels-last memory.
        apply: from the input ``(N, C, *sizes)``, the tensors, and maps beside the input, to the output.
        apply_packed: the same with the packed tensors.
    """

    program: Program
    split: Callable[[Tensor, Tensor | None], Filters]
    pack: Callable[[Filters, Sequence[int]], Filters] | None
    apply: Callable[..., Tensor]
    apply_packed: Callable[[Tensor, Sequence[Tensor | None]], Tensor]


@lru_cache(maxsize=4096)
def routine(deconv: Deconv, form: Form) -> Routine:
    """The routine for ``deconv`` in ``form``, whose candidate must be one of the deconv's candidates."""
    return interpret(lower(deconv, form.program_layout, form.candidate), form.layout)


def operations(deconv: Deconv, form: Form) -> tuple[Program, list[Operation]]:
    """The program that PyTorch runs for ``deconv`` in ``form``, and for each of its steps the operation and its inputs.

    The operations take the values and a flat list of filter and bias of each arithmetic operation.
    """
    program = shuffle_by_channels(lower(deconv, form.program_layout, form.candidate))
    return program, _operations(program, APPLY)


def interpret(program: Program, layout: FormLayout | None = None) -> Routine:
    """``program`` as PyTorch operations; ``layout`` is that of its form where it is not the program's own."""
    program = shuffle_by_channels(_written_plainly(program))
    steps = _operations(program, APPLY)
    compiled = _operations(program, APPLY_COMPILED)
    unrecorded = _with_assembly(program, steps)
    eager = _with_assembly(program, _operations(program, APPLY_EAGER))
    last = (layout or program.layout) != "NCHW"
    splits = [_split(step.op, program.deconv) for step in program.steps if isinstance(step.op, ARITHMETIC)]

    def split(weight: Tensor, bias: Tensor | None) -> Filters:
        return tuple(tensor for each in splits for tensor in each(weight, bias))

    def apply(x: Tensor, filters: Sequence[Tensor | None], *beside: Tensor) -> Tensor:
        if not last and packed.can_pack(x, filters):
            return _run(program.layout, unrecorded, [x, *beside], filters)
        maps = [channels_innermost(each) if last else each for each in (x, *beside)]
        return _run(program.layout, steps, maps, filters)

    def apply_packed(x: Tensor, filters: Sequence[Tensor | None]) -> Tensor:
        if torch.compiler.is_compiling():
            return _run(program.layout, compiled, [channels_innermost(x)], filters)
        return _run(program.layout, eager, [packed.channels_last(x)], filters)

    return Routine(program, split, partial(_pack, program) if last else None, apply, apply_packed)


def _written_plainly(program: Program) -> Program:
    """The same program, but what the model writes out as PyTorch's own upsampling, or zeros, and convolution."""
    op = program.steps[0].op
    if isinstance(op, NativeDeconv) and op.deconv.written_out is not None and not op.simplified:
        return dataclasses.replace(as_written(op.deconv, program.layout), name=program.name)
    return program


def _run(
    layout: Layout, steps: Sequence[Operation], maps: Sequence[Tensor], filters: Sequence[Tensor | None]
) -> Tensor:
    """The operations one after the other, on maps in ``layout``; ``maps`` and the output are ``(N, C, *sizes)``."""
    values = [each if layout == "NCHW" else to_nhwc(each) for each in maps]
    for operation, inputs in steps:
        values.append(operation([values[number] for number in inputs], filters))
    return values[-1] if layout == "NCHW" else to_nchw(values[-1])


def _pack(program: Program, filters: Filters, in_shape: Sequence[int]) -> Filters:
    """The tensors of ``program`` for inputs of ``in_shape``, the filters in oneDNN's order."""
    batch, channels, *sizes = in_shape
    first = (batch, channels, *sizes) if program.layout == "NCHW" else (batch, *sizes, channels)
    shapes = program.shapes(first)
    found = list(filters)
    arithmetic = [step for step in program.steps if isinstance(step.op, ARITHMETIC)]
    for number, step in enumerate(arithmetic):
        weight, bias = filters[2 * number : 2 * number + 2]
        if isinstance(step.op, Conv | NativeDeconv) and weight is not None:
            shape = [int(size or 0) for size in shapes[step.inputs[0]]]
            if program.layout == "NHWC":
                shape = [shape[0], shape[-1], *shape[1:-1]]
            if isinstance(step.op, Conv):
                found[2 * number] = packed.pack(step.op, weight, shape)
            else:
                found[2 * number] = native.pack(step.op, weight, shape)
            # a repeated value may be a view of a single number, which oneDNN would read past
            found[2 * number + 1] = None if bias is None else bias.contiguous()
    return tuple(found)


def _operations(program: Program, table: Mapping[type[Op], Callable[..., Apply]]) -> list[Operation]:
    found, at = [], 0
    for step in program.steps:
        found.append((table[type(step.op)](step.op, at), step.inputs))
        at += 2 if isinstance(step.op, ARITHMETIC) else 0
    return found


def _with_assembly(program: Program, steps: Sequence[Operation]) -> list[Operation]:
    """The operations with those of :mod:`splitdeconv.torch_modules.assemble` in their place, for packed filters."""
    if program.inputs:  # a sum comes behind what would be assembled
        return list(steps)
    interleave = assemble.interleave_of(program)
    if interleave is not None:
        conv = max(number for number, step in enumerate(program.steps) if isinstance(step.op, Conv))
        return [*steps[: conv + 1], (lambda values, _: interleave(values), (conv + 1,))]
    found = list(steps)
    roots = assemble.joins(program)
    for number, step in enumerate(program.steps):
        if isinstance(step.op, Concat):
            join = roots.get(number + 1)
            found[number] = (_unread, ()) if join is None else (partial(_joined, join), join.values())
    return found


def _unread(_values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
    """In the place of a map that is joined where it is needed."""
    return torch.empty(0)


def _joined(join: assemble.Join, values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
    return assemble.joined(join, values)


def shuffle_by_channels(program: Program) -> Program:
    """The same program with ``channel_major`` DepthToSpace where a convolution alone feeds it.

    That is PyTorch's ``pixel_shuffle``. The order of a convolution's outputs is free, because its filter is made here.
    Before: Conv (block_major), DepthToSpace (block_major). After: both channel_major. NCHW only.
    """
    if program.layout == "NHWC":
        return program
    steps, first = list(program.steps), len(program.in_shapes)
    for number, step in enumerate(steps):
        if not isinstance(step.op, DepthToSpace) or step.op.order == "channel_major":
            continue
        (source,) = step.inputs
        readers = [each for each in steps if source in each.inputs]
        conv = steps[source - first].op if source >= first else None
        if isinstance(conv, Conv) and len(readers) == 1:
            steps[source - first] = Step(dataclasses.replace(conv, order="channel_major"), steps[source - first].inputs)
            steps[number] = Step(dataclasses.replace(step.op, order="channel_major"), step.inputs)
    return dataclasses.replace(program, steps=tuple(steps))


def _split(op: Conv | NativeDeconv | AddBias, deconv: Deconv) -> Callable[[Tensor, Tensor | None], Filters]:
    """Which tensors an arithmetic operation needs, made from the deconv's parameters."""
    if isinstance(op, NativeDeconv):
        if op.deconv.written_out is None:
            return lambda weight, bias: (weight, bias)
        kernel = composite_split(op.deconv, deconv.weights_shape)
        return lambda weight, bias: (kernel(weight), bias if op.deconv.has_bias else None)
    if isinstance(op, AddBias):
        return lambda _, bias: (None, bias)
    filters = filter_split(op, deconv.weights_shape)
    biases = bias_split(op)
    if not op.has_bias:
        return lambda weight, _: (filters(weight), None)
    return lambda weight, bias: (filters(weight), None if bias is None else biases(bias))
