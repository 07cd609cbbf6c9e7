"""What writing a program depends on: whether it is the model's own operators, where sums are complete, and kernels."""

from __future__ import annotations

from dataclasses import replace

from splitdeconv.deconv.ops import Add, AddBias, Conv, Interpolate, NativeDeconv
from splitdeconv.deconv.program import Program


def is_native(program: Program) -> bool:
    """Whether the program is the model's own operators."""
    (first, *others) = program.steps
    return not others and isinstance(first.op, NativeDeconv) and not first.op.simplified


def activated(program: Program) -> frozenset[int] | None:
    """The steps that complete sums, and can take an activation; None where only all of the output can."""
    additions = [number for number, step in enumerate(program.steps) if isinstance(step.op, Add | AddBias)]
    if not additions and any(isinstance(step.op, Interpolate) for step in program.steps):
        return None
    if not additions:
        return frozenset(n for n, step in enumerate(program.steps) if isinstance(step.op, Conv | NativeDeconv))
    behind = program.steps[additions[-1] + 1 :]
    return frozenset(additions[-1:]) if all(len(set(step.inputs)) == 1 for step in behind) else None


def widened(program: Program) -> Program:
    """The program as hybrid kernels keep its bits: LiteRT quantises the input of a 1×1 convolution pixel by pixel.

    A deconv's input it quantises as a whole, and so that of any larger convolution: each 1×1 convolution gets a second
    column of zeros, for which padding SAME has room. A convolution that was 1×1 before stays.
    """
    deconv = program.deconv
    was_so = deconv.written_out is not None and set(deconv.written_out.kernel) == {1}
    if deconv.quant is None or deconv.quant.activation != "float32" or was_so:
        return program
    steps = [replace(each, op=_wider(each.op)) if isinstance(each.op, Conv) else each for each in program.steps]
    return replace(program, steps=tuple(steps))


def _wider(conv: Conv) -> Conv:
    if set(conv.kernel) != {1}:
        return conv
    *before, last = conv.pad_end
    return replace(
        conv,
        blocks=tuple((*taps[:-1], (*taps[-1], None)) for taps in conv.blocks),
        dilations=(1,) * len(conv.kernel),
        pad_end=(*before, last + 1),
    )
