"""Tiny ONNX models, one operator each, with which targets find out what they really run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.target import CompileError, one_line

OPSET, IR_VERSION = 17, 8
OPSET_OF_BFLOAT16, IR_VERSION_OF_BFLOAT16 = 22, 10  # the first with convolutions of that type
SIZE = 4

Probe = tuple[str, str, int]  # operator, NumPy type name, spatial axes
Compile = Callable[[bytes], object]

_OPS_OF_FORM = {
    "depth_to_space": ("DepthToSpace",),
    "transpose": ("Transpose",),
    "two_steps": ("Transpose",),
    "concat": ("Concat",),
    "stack": ("Concat", "Transpose"),
}
_OPS_OF_LOWERING = {
    "native": ("ConvTranspose",),
    "zero_insert": ("Conv", "Pad"),
    "col2im": ("Conv", "Pad"),
    "separable": ("MatMul",),
    "split_rows": ("Conv", "Concat", "Transpose"),
    "split_row_groups": ("Conv", "Concat", "Transpose"),
}


def probes(deconv: Deconv, candidate: Candidate) -> tuple[Probe, ...]:
    """The probes that ``candidate`` needs to pass. Quantised layers need none: their form decides, at compile."""
    if deconv.quant is not None:
        return ()
    ops = _OPS_OF_LOWERING.get(candidate.lowering, ("Conv",)) + _OPS_OF_FORM.get(candidate.form, ())
    return tuple((op, deconv.dtype, len(deconv.axes)) for op in ops)


def refusal(probe: Probe, compile_model: Compile) -> str | None:
    """Why a target does not run an operator on a type, in its own words, or None.

    Compiling is enough, because that is where runtimes look for their kernels; and NumPy arrays of some types (such as
    bfloat16) cannot be handed to a runtime that computes in them.
    """
    op, dtype, rank = probe
    try:
        compile_model(model(probe))
    except (ValueError, CompileError) as error:
        return f"{op} in {dtype} with {rank} spatial axes does not run here: {one_line(error)}"
    return None


def model(probe: Probe) -> bytes:
    """A model of one operator from ``x``, ``(1, 4, 4, …)``, to ``y``.

    Raises:
        ValueError: ONNX has no such type.
    """
    op, dtype, rank = probe
    element = _element(dtype)
    shape = [1, 4, *[SIZE] * rank]
    constants: dict[str, Array] = {}
    attributes: dict[str, Any] = {}
    if op in ("Conv", "ConvTranspose"):
        constants["w"] = np.ones([4, 4, *[2] * rank])
        attributes["strides"] = [2 if op == "ConvTranspose" else 1] * rank
    elif op == "Pad":
        constants["pads"] = np.array([0, 0, *[1] * rank] * 2)
    elif op == "DepthToSpace":
        attributes["blocksize"] = 2
    elif op == "Transpose":
        attributes["perm"] = [0, *range(2, rank + 2), 1]
    elif op == "MatMul":
        constants["w"] = np.ones([4, 8])
    elif op == "Concat":
        attributes["axis"] = rank + 1
    inputs = ["x", "x"] if op == "Concat" else ["x", *constants]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], **attributes)],
        "probe",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, None)],
        [_constant(name, array, element) for name, array in constants.items()],
    )
    late = dtype == "bfloat16"
    opset = helper.make_opsetid("", OPSET_OF_BFLOAT16 if late else OPSET)
    ir_version = IR_VERSION_OF_BFLOAT16 if late else IR_VERSION
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=ir_version).SerializeToString())


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
