"""Whether the parts of a model fit each other: indices in range, contents as long as the shapes say.

What passes here can be handled without a further check; it says nothing about what single operators demand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from splitdeconv.formats.tflite.schema import DTYPES, TYPE_NAMES, op_name

SCHEMA_VERSION = 3
# Fewest inputs, and the class of the options where they are read.
_OPERANDS: dict[str, tuple[int, str]] = {
    "TRANSPOSE_CONV": (3, "TransposeConvOptionsT"),
    "DEQUANTIZE": (1, ""),
    "STRIDED_SLICE": (4, "StridedSliceOptionsT"),
    "SLICE": (3, ""),
    "ADD": (2, "AddOptionsT"),
    "SUB": (2, ""),
    "MUL": (2, ""),
    "GATHER": (2, ""),
    "SHAPE": (1, ""),
    "PACK": (1, ""),
    "CONCATENATION": (1, ""),
    "CAST": (1, ""),
    "RESHAPE": (1, ""),
    "SQUEEZE": (1, ""),
    "EXPAND_DIMS": (1, ""),
    "RELU": (1, ""),
    "RELU6": (1, ""),
    "RELU_N1_TO_1": (1, ""),
    "CONV_2D": (2, "Conv2DOptionsT"),
    "CONV_3D": (2, "Conv3DOptionsT"),
    "DEPTHWISE_CONV_2D": (2, "DepthwiseConv2DOptionsT"),
    "FULLY_CONNECTED": (2, ""),
    "BATCH_MATMUL": (2, "BatchMatMulOptionsT"),
}
LARGEST_SIZE = 2**31 - 1  # of one axis; LiteRT's sizes are int32


def inconsistency(root: Any, file_size: int) -> str | None:
    """What is wrong with the model, in one phrase that says where; None for a sound one.

    Args:
        root: the schema's ``ModelT``.
        file_size: bytes in the file, which buffers may point into.
    """
    if root.version != SCHEMA_VERSION:
        newer = ", newer than what is known here" if root.version > SCHEMA_VERSION else ""
        return f"schema version is {root.version}{newer}, wanted {SCHEMA_VERSION}"
    for part in ("subgraphs", "buffers", "operatorCodes"):
        if getattr(root, part) is None or (part == "subgraphs" and not root.subgraphs):
            return f"the model has no {part}"
    return next(_problems(root, file_size), None)


def _problems(root: Any, file_size: int) -> Iterator[str]:
    for number, buffer in enumerate(root.buffers):
        if buffer.offset > 1 and buffer.offset + buffer.size > file_size:
            yield f"buffer {number} ends at byte {buffer.offset + buffer.size}, the file has {file_size}"
    for number, graph in enumerate(root.subgraphs):
        where = f"subgraph {number}"
        for index, tensor in enumerate(graph.tensors or []):
            yield from _tensor_problems(root, tensor, f"{where}, tensor {index}")
        tensors = len(graph.tensors or [])
        yield from _outside(graph.inputs, tensors, f"{where}, inputs")
        yield from _outside(graph.outputs, tensors, f"{where}, outputs")
        for index, operator in enumerate(graph.operators or []):
            yield from _operator_problems(root, operator, tensors, file_size, f"{where}, operator {index}")
    for entry in root.metadata or []:
        yield from _outside([entry.buffer], len(root.buffers), f"metadata {entry.name!r}, buffer")
    for signature in root.signatureDefs or []:
        yield from _signature_problems(root, signature)


def _outside(indices: Iterable[int] | None, count: int, what: str, least: int = 0) -> Iterator[str]:
    for index in [] if indices is None else indices:
        if not least <= index < count:
            yield f"{what}: index {index} is outside of {least}..{count - 1}"


def _tensor_problems(root: Any, tensor: Any, where: str) -> Iterator[str]:
    if tensor.type not in TYPE_NAMES:
        yield f"{where}: type {tensor.type} is unknown, or newer than the installed schema; update ai-edge-litert"
    yield from _outside([tensor.buffer], len(root.buffers), f"{where}, buffer")
    if not _is_text(tensor.name):
        yield f"{where}: its name is no UTF-8 text"
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    if any(size < -1 for size in shape) or math.prod(max(size, 1) for size in shape) > LARGEST_SIZE:
        yield f"{where}: shape {shape} is impossible"
    signature = tensor.shapeSignature
    if signature is not None and len(signature) and len(signature) != len(shape):
        yield f"{where}: shape signature has {len(signature)} axes, the shape {len(shape)}"
    if tensor.quantization is not None:
        yield from _quantization_problems(tensor.quantization, shape, where)
    yield from _content_problems(root, tensor, shape, where)


def _is_text(name: bytes | str | None) -> bool:
    try:
        return not isinstance(name, bytes) or bool(name.decode() or True)
    except UnicodeDecodeError:
        return False


def _quantization_problems(quantization: Any, shape: list[int], where: str) -> Iterator[str]:
    scales = 0 if quantization.scale is None else len(quantization.scale)
    zero_points = 0 if quantization.zeroPoint is None else len(quantization.zeroPoint)
    if zero_points not in (0, scales) and scales:
        yield f"{where}: {scales} scales and {zero_points} zero-points"
    if scales > 1:
        axis = quantization.quantizedDimension
        if not 0 <= axis < len(shape) or shape[axis] != scales:
            yield f"{where}: {scales} scales for axis {axis} of shape {shape}"


def _content_problems(root: Any, tensor: Any, shape: list[int], where: str) -> Iterator[str]:
    if tensor.type not in DTYPES or tensor.sparsity is not None or not 0 <= tensor.buffer < len(root.buffers):
        return
    buffer = root.buffers[tensor.buffer]
    stored = buffer.size if buffer.offset > 1 else 0 if buffer.data is None else len(buffer.data)
    wanted = math.prod(shape) * np.dtype(DTYPES[tensor.type]).itemsize
    if stored and stored != wanted:
        yield f"{where}: buffer has {stored} bytes, shape {shape} of {DTYPES[tensor.type]} needs {wanted}"


def _operator_problems(root: Any, operator: Any, tensors: int, file_size: int, where: str) -> Iterator[str]:
    yield from _outside([operator.opcodeIndex], len(root.operatorCodes), f"{where}, operator code")
    yield from _outside(operator.inputs, tensors, f"{where}, inputs", least=-1)
    yield from _outside(operator.outputs, tensors, f"{where}, outputs")
    if 0 <= operator.opcodeIndex < len(root.operatorCodes):
        yield from _operand_problems(root, operator, where)
    yield from _outside(operator.intermediates, tensors, f"{where}, intermediates")
    for options in ("builtinOptions", "builtinOptions2"):
        kind = getattr(operator, options + "Type")
        if kind and getattr(operator, options) is None:
            yield f"{where}: options of kind {kind} are newer than the installed schema; update ai-edge-litert"
    end = operator.largeCustomOptionsOffset + operator.largeCustomOptionsSize
    if operator.largeCustomOptionsOffset > 1 and end > file_size:
        yield f"{where}: options end at byte {end}, the file has {file_size}"


def _operand_problems(root: Any, operator: Any, where: str) -> Iterator[str]:
    """For the operators that the rewriting looks into."""
    name = op_name(root, operator)
    if name not in _OPERANDS:
        return
    least, options = _OPERANDS[name]
    given = 0 if operator.inputs is None else len(operator.inputs)
    if given < least or operator.outputs is None or not len(operator.outputs):
        yield f"{where}: {name} has {given} inputs, wanted at least {least} and one output"
    found = operator.builtinOptions
    if options and found is not None and type(found).__name__ != options:
        yield f"{where}: {name} has options of {type(found).__name__.removesuffix('T')}"


def _signature_problems(root: Any, signature: Any) -> Iterator[str]:
    where = f"signature {signature.signatureKey!r}"
    yield from _outside([signature.subgraphIndex], len(root.subgraphs), f"{where}, subgraph")
    if 0 <= signature.subgraphIndex < len(root.subgraphs):
        tensors = len(root.subgraphs[signature.subgraphIndex].tensors or [])
        maps = [*(signature.inputs or []), *(signature.outputs or [])]
        yield from _outside([entry.tensorIndex for entry in maps], tensors, f"{where}, tensors")
