"""What writing a program depends on: whether it is the model's own operators, and where its sums are complete."""

from __future__ import annotations

from splitdeconv.deconv.ops import Add, AddBias, Conv, NativeDeconv
from splitdeconv.deconv.program import Program


def is_native(program: Program) -> bool:
    """Whether the program is the model's own operators."""
    (first, *others) = program.steps
    return not others and isinstance(first.op, NativeDeconv) and not first.op.simplified


def activated(program: Program) -> frozenset[int] | None:
    """The steps that complete sums, and can take an activation; None where only all of the output can."""
    additions = [number for number, step in enumerate(program.steps) if isinstance(step.op, Add | AddBias)]
    if not additions:
        return frozenset(n for n, step in enumerate(program.steps) if isinstance(step.op, Conv | NativeDeconv))
    behind = program.steps[additions[-1] + 1 :]
    return frozenset(additions[-1:]) if all(len(set(step.inputs)) == 1 for step in behind) else None
