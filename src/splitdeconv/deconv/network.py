"""Whole models without any format: the operations that they are made of, and what a target compiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splitdeconv.deconv.layers import Dense, PlainConv, Spec
from splitdeconv.deconv.ops import Layout, Op
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of a network.

    Attributes:
        name: in the network.
        spec: its sizes.
        nonzero: where the trained weights are not zero (deconv IOHW, conv OIHW, dense OI), or None if unknown.
    """

    name: str
    spec: Spec
    nonzero: Array | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """``deconv``, ``conv`` or ``dense``."""
        return {Deconv: "deconv", PlainConv: "conv", Dense: "dense"}[type(self.spec)]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator of a model.

    Attributes:
        what: a layer; or data movement, with :class:`~splitdeconv.deconv.ops.Relayout` for what leaves zeros where
            they are (activations, quantising); None for anything else.
        inputs: the values that it reads, the map first.
        output: the value that it makes.
        in_shape, shape: sizes of the map and of the output; empty where they are unknown.
    """

    what: Layer | Op | None
    inputs: tuple[str, ...]
    output: str
    in_shape: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """All operators of a model, in order.

    Attributes:
        layout: of its maps.
        steps: those of its main graph.
    """

    layout: Layout
    steps: tuple[Operation, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its convolutions, matrix products and deconvs."""
        return tuple(step.what for step in self.steps if isinstance(step.what, Layer))


@dataclass(frozen=True, slots=True, eq=False)
class Compilable:
    """A model as a target takes it.

    Attributes:
        content: the bytes of its file; the path where it is above 2 GB or has data in other files; or an object of the
            format's own library, with ``nbytes``, where no file holds it.
        operations: gives its operations, for targets that only count, or None; raises InputError where a size is
            unknown.
        evaluate: computes its outputs where the format can do that without a runtime, or None.
    """

    content: Any
    operations: Callable[[], Operations | None] = lambda: None
    evaluate: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None

    def read(self) -> bytes:
        """The bytes of the file."""
        return self.content if isinstance(self.content, bytes) else bytes(self.content.read_bytes())

    @property
    def size(self) -> int:
        """Bytes of the file, or of the object."""
        if isinstance(self.content, bytes):
            return len(self.content)
        return int(self.content.stat().st_size if isinstance(self.content, Path) else self.content.nbytes)
