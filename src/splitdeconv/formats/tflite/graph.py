"""One subgraph of a model, to look things up in."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.schema import DTYPES, TYPE_NAMES, op_name


@dataclass(frozen=True)
class Graph:
    """Look-ups in subgraph ``number`` of ``root``; tensors and operators go by their indices."""

    root: Any
    number: int
    _producers: dict[int, int] = field(init=False, default_factory=dict)
    _consumers: dict[int, list[int]] = field(init=False, default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for index, operator in enumerate(self.operators):
            for tensor in indices(operator.outputs):
                self._producers[tensor] = index
            for tensor in dict.fromkeys(indices(operator.inputs)):
                self._consumers[tensor].append(index)

    @property
    def operators(self) -> list[Any]:
        """The subgraph's operators, in order."""
        return self.root.subgraphs[self.number].operators or []

    @property
    def tensors(self) -> list[Any]:
        """The subgraph's tensors."""
        return self.root.subgraphs[self.number].tensors or []

    @cached_property
    def outputs(self) -> list[int]:
        """Tensors that leave the subgraph."""
        return indices(self.root.subgraphs[self.number].outputs)

    def describe(self) -> str:
        """``subgraph 0 'main'``."""
        name = text(self.root.subgraphs[self.number].name)
        return f"subgraph {self.number} '{name}'" if name else f"subgraph {self.number}"

    def name(self, operator: int) -> str:
        """Name of an operator's kind, such as ``TRANSPOSE_CONV``."""
        return op_name(self.root, self.operators[operator])

    def inputs_of(self, operator: int) -> list[int]:
        """Its input tensors; -1 for one that is left out."""
        return indices(self.operators[operator].inputs)

    def outputs_of(self, operator: int) -> list[int]:
        """Its output tensors."""
        return indices(self.operators[operator].outputs)

    def producer(self, tensor: int) -> int | None:
        """The operator that makes ``tensor``, or None."""
        return self._producers.get(tensor)

    def readers(self, tensor: int) -> list[int]:
        """The operators that read ``tensor``."""
        return self._consumers.get(tensor, [])

    def only_consumer(self, tensor: int) -> int | None:
        """The one operator that reads ``tensor``, if nothing else sees it."""
        readers = self.readers(tensor)
        if len(readers) != 1 or tensor in self.outputs or self.tensors[tensor].isVariable:
            return None
        return readers[0]

    def shape(self, tensor: int) -> Shape:
        """Sizes of ``tensor``, None where the model leaves them open."""
        found = self.tensors[tensor]
        shape = indices(found.shape)
        signature = indices(found.shapeSignature)
        return tuple(None if size < 0 else size for size in (signature or shape))

    def type_name(self, tensor: int) -> str:
        """Type of ``tensor``, such as ``int8``."""
        return TYPE_NAMES[self.tensors[tensor].type]

    def content(self, tensor: int) -> Array | None:
        """The values of a constant, or None where ``tensor`` is none (or is stored in a way that is not read here)."""
        if tensor < 0:
            return None
        found = self.tensors[tensor]
        stored = self.root.buffers[found.buffer].data
        constant = found.sparsity is None and not found.isVariable and not found.externalBuffer
        if not constant or stored is None or not len(stored) or found.type not in DTYPES:
            return None
        return np.frombuffer(stored, DTYPES[found.type]).reshape(indices(found.shape))


def touched_tensors(root: Any, graph: Any) -> set[int]:
    """Tensors of a subgraph that operators, signatures or the outside read or make."""
    touched = {*indices(graph.inputs), *indices(graph.outputs)}
    for operator in graph.operators or []:
        touched |= {*indices(operator.inputs), *indices(operator.outputs), *indices(operator.intermediates)}
    for signature in root.signatureDefs or []:
        touched |= {each.tensorIndex for each in [*(signature.inputs or []), *(signature.outputs or [])]}
    return touched - {-1}


def indices(found: Any) -> list[int]:
    """A vector of the schema as a list; empty where it is absent."""
    return [] if found is None else [int(index) for index in found]


def text(found: bytes | str | None) -> str:
    """A string of the schema."""
    if found is None:
        return ""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found
