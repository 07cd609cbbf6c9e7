"""Adds tensors, constants and operators to a copy of one subgraph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.schema import tensor_type, tfl

LARGEST_OLD_CODE = 127  # operators beyond it have their number in a second field


class GraphWriter:
    """Collects the new parts of a model; the tree it starts from stays as it is.

    Attributes:
        root: the new tree.
        operators: what was added so far, in order.
    """

    def __init__(self, root: Any, graph: int) -> None:
        self.root = copy.copy(root)
        self.root.operatorCodes = list(root.operatorCodes)
        self.root.buffers = list(root.buffers)
        self.root.subgraphs = list(root.subgraphs)
        self.subgraph = copy.copy(root.subgraphs[graph])
        self.subgraph.tensors = list(self.subgraph.tensors)
        self.root.subgraphs[graph] = self.subgraph
        self.operators: list[Any] = []
        self._names = {bytes(tensor.name or b"") for tensor in self.subgraph.tensors}
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], int] = {}

    def tensor(self, like: Any, shape: Shape, name: str) -> int:
        """A new tensor with the type and the quantisation of ``like``.

        Args:
            like: a tensor of the schema.
            shape: None for an open size.
            name: for people; a number is added where the subgraph has it already, since quantisers go by names.
        """
        open_sizes = None in shape
        new = tfl.TensorT(
            shape=_int32([1 if size is None else size for size in shape]),
            shapeSignature=_int32([-1 if size is None else size for size in shape]) if open_sizes else None,
            type=like.type,
            buffer=0,
            name=self._free_name(name),
            quantization=like.quantization,
            hasRank=True,
        )
        self.subgraph.tensors.append(new)
        return len(self.subgraph.tensors) - 1

    def constant(self, values: Array, name: str, quantization: Any = None) -> int:
        """A constant tensor; equal unquantised ones are written once."""
        key = (values.tobytes(), str(values.dtype), values.shape)
        if quantization is None and key in self._constants:
            return self._constants[key]
        content = np.frombuffer(values.tobytes(), np.uint8)
        self.root.buffers.append(tfl.BufferT(data=content))
        new = tfl.TensorT(
            shape=_int32(values.shape),
            type=tensor_type(values),
            buffer=len(self.root.buffers) - 1,
            name=self._free_name(name),
            quantization=quantization,
            hasRank=True,
        )
        self.subgraph.tensors.append(new)
        index = len(self.subgraph.tensors) - 1
        if quantization is None:
            self._constants[key] = index
        return index

    def _free_name(self, name: str) -> bytes:
        tries = (f"{name}{number or ''}".encode() for number in count())
        free = next(each for each in tries if each not in self._names)
        self._names.add(free)
        return free

    def operator(
        self, builtin: int, version: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """Append an operator; ``options`` is one of the schema's option objects."""
        new = tfl.OperatorT(
            opcodeIndex=self._code(builtin, version),
            inputs=_int32(inputs),
            outputs=_int32(outputs),
            builtinOptionsType=_options_type(options),
            builtinOptions=options,
        )
        self.operators.append(new)

    def copied(self, root: Any, operator: Any, inputs: Sequence[int], outputs: Sequence[int], version: int = 0) -> None:
        """Append a copy of an operator of the model ``root``, connected anew; custom ones of the same model only.

        Args:
            root: of the operator.
            operator: one of the schema.
            inputs, outputs: tensors in the new tree.
            version: at least, of its kind.
        """
        code, new = root.operatorCodes[operator.opcodeIndex], copy.copy(operator)
        if code.customCode is None:
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            new.opcodeIndex = self._code(builtin, max(version, code.version))
        new.inputs, new.outputs = _int32(inputs), _int32(outputs)
        self.operators.append(new)

    def _code(self, builtin: int, version: int) -> int:
        for index, code in enumerate(self.root.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version >= version:
                return index
        old = min(builtin, LARGEST_OLD_CODE)
        self.root.operatorCodes.append(
            tfl.OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=builtin, version=version)
        )
        return len(self.root.operatorCodes) - 1


def _int32(values: Sequence[int]) -> Array:
    return np.asarray(values, np.int32)


def _options_type(options: Any) -> int:
    """The union's number of an options object: its class name without the T."""
    if options is None:
        return 0
    return int(getattr(tfl.BuiltinOptions, type(options).__name__[:-1]))
