"""Tiny ONNX models, one operator each, with which targets find out what they really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import Concat, Conv, DepthToSpace, NativeDeconv, Op, Pad, Spread, Transpose
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.targets.target import CompileError, Operator, one_line, operators

OPSET, IR_VERSION = 17, 8
OPSET_OF_BFLOAT16, IR_VERSION_OF_BFLOAT16 = 22, 10  # the first with convolutions of that type
SIZE = 4

Compile = Callable[[Compilable], object]

_NAMES: dict[type[Op], str] = {
    NativeDeconv: "ConvTranspose",
    Conv: "Conv",
    Pad: "Pad",
    Spread: "MatMul",
    DepthToSpace: "DepthToSpace",
    Transpose: "Transpose",
    Concat: "Concat",
}  # what is tried: the operators that some runtime lacks in some type


@dataclass
class Probes:
    """What a target was seen to run and not to run; every operator is tried once."""

    _answers: dict[Operator, str | None] = field(default_factory=dict)

    def refuse(self, program: Program, compile_model: Compile) -> str | None:
        """Why the target does not run an operator of ``program`` on its type, in its own words, or None.

        Quantised programs are not tried: how they are written decides, when they are compiled.
        """
        if program.deconv.quant is not None:
            return None
        known = [each for each in operators(program) if each.kind in _NAMES]
        for operator in sorted(known, key=lambda each: list(_NAMES).index(each.kind)):
            if operator not in self._answers:
                self._answers[operator] = _refusal(operator, compile_model)
            if reason := self._answers[operator]:
                return reason
        return None


def _refusal(operator: Operator, compile_model: Compile) -> str | None:
    """Compiling is enough, because that is where runtimes look for their kernels.

    And NumPy arrays of some types (such as bfloat16) cannot be handed to a runtime that computes in them.
    """
    try:
        compile_model(Compilable(model(operator)))
    except (ValueError, CompileError) as error:
        where = f"in {operator.dtype} with {operator.rank} spatial axes"
        return f"{_NAMES[operator.kind]} {where} does not run here: {one_line(error)}"
    return None


def model(operator: Operator) -> bytes:
    """A model of one operator from ``x``, ``(1, 4, 4, …)``, to ``y``.

    Raises:
        ValueError: ONNX has no such type.
    """
    name, dtype = _NAMES[operator.kind], operator.dtype
    element = _element(dtype)
    constants, attributes = _parameters(name, operator.rank)
    inputs = ["x", "x"] if name == "Concat" else ["x", *constants]
    graph = helper.make_graph(
        [helper.make_node(name, inputs, ["y"], **attributes)],
        "probe",
        [helper.make_tensor_value_info("x", element, [1, 4, *[SIZE] * operator.rank])],
        [helper.make_tensor_value_info("y", element, None)],
        [_constant(key, array, element) for key, array in constants.items()],
    )
    late = dtype == "bfloat16"
    opset = helper.make_opsetid("", OPSET_OF_BFLOAT16 if late else OPSET)
    ir_version = IR_VERSION_OF_BFLOAT16 if late else IR_VERSION
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=ir_version).SerializeToString())


def _parameters(name: str, rank: int) -> tuple[dict[str, Array], dict[str, Any]]:
    """Constant inputs and attributes of an operator."""
    match name:
        case "Conv" | "ConvTranspose":
            strides = [2 if name == "ConvTranspose" else 1] * rank
            return {"w": np.ones([4, 4, *[2] * rank])}, {"strides": strides}
        case "Pad":
            return {"pads": np.array([0, 0, *[1] * rank] * 2)}, {}
        case "MatMul":
            return {"w": np.ones([4, 8])}, {}
        case "DepthToSpace":
            return {}, {"blocksize": 2}
        case "Transpose":
            return {}, {"perm": [0, *range(2, rank + 2), 1]}
    return {}, {"axis": rank + 1}


def _constant(name: str, values: Array, element: int) -> onnx.TensorProto:
    """Pads are int64 whatever the model's type."""
    kind = np.dtype(np.int64) if values.dtype.kind == "i" else helper.tensor_dtype_to_np_dtype(element)
    return numpy_helper.from_array(values.astype(kind), name)


def _element(dtype: str) -> int:
    """ONNX's number of a NumPy type."""
    try:
        return int(onnx.TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper())))
    except ValueError:
        raise ValueError(f"ONNX has no type {dtype}") from None
