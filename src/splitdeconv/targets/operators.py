"""Which operators a program is made of: what a target looks at to say whether it runs it."""

from __future__ import annotations

from dataclasses import dataclass

from splitdeconv.deconv.ops import Op
from splitdeconv.deconv.program import Program


@dataclass(frozen=True, slots=True)
class Operator:
    """A kind of operation as a target meets it.

    Attributes:
        kind: the operation's class.
        dtype: NumPy name of the type that it computes in.
        rank: number of spatial axes of the deconv that it is a part of.
    """

    kind: type[Op]
    dtype: str
    rank: int


def operators(program: Program) -> frozenset[Operator]:
    """The operators of ``program``."""
    deconv = program.deconv
    return frozenset(Operator(kind, deconv.dtype, len(deconv.axes)) for kind in kinds(program))


def kinds(program: Program) -> frozenset[type[Op]]:
    """The classes of the operations of ``program``."""
    return frozenset(type(step.op) for step in program.steps)
