"""What the TFLite schema calls things, as far as it is used here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from splitdeconv.deconv.weights import Array

__all__ = ["ACTIVATIONS", "DTYPES", "TYPE_NAMES", "Builtin", "op_name", "tensor_type", "tfl"]

Builtin = tfl.BuiltinOperator

_OP_NAMES: Mapping[int, str] = {code: name for name, code in vars(tfl.BuiltinOperator).items() if isinstance(code, int)}
TYPE_NAMES: Mapping[int, str] = {
    code: name.lower() for name, code in vars(tfl.TensorType).items() if isinstance(code, int)
}
DTYPES: Mapping[int, str] = {
    code: name
    for code, name in TYPE_NAMES.items()
    if name in ("bool", "float32", "float16", "int8", "uint8", "int16", "int32", "int64")
}

# Fused activations that are element-wise and that CONV_2D and ADD have too.
ACTIVATIONS: Mapping[int, str] = {
    tfl.ActivationFunctionType.NONE: "",
    tfl.ActivationFunctionType.RELU: "RELU",
    tfl.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
    tfl.ActivationFunctionType.RELU6: "RELU6",
}


def op_name(root: Any, operator: Any) -> str:
    """Name of an operator: the schema's, or a custom operator's own."""
    code = root.operatorCodes[operator.opcodeIndex]
    if code.customCode is not None:
        return _text(code.customCode)
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _OP_NAMES.get(builtin, f"operator {builtin}")


def _text(found: bytes | str) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


def tensor_type(array: Array) -> int:
    """The schema's number of an array's type."""
    return next(code for code, name in DTYPES.items() if np.dtype(name) == array.dtype)
