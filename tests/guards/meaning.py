"""What a written model computes, as a digest: no metadata, no types of inner values, no names of TFLite's tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np


def meaning(path: Path) -> str:
    """The digest of an ONNX or TFLite model; empty for other files."""
    read = {".onnx": _onnx, ".tflite": _tflite}.get(path.suffix)
    return "" if read is None else _digest(repr(read(path)).encode())[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _onnx(path: Path) -> Any:
    import onnx  # noqa: PLC0415  # slow to import

    model = onnx.load(path)
    functions = [(each.domain, each.name, [_node(node) for node in each.node]) for each in model.functions]
    return sorted((each.domain, each.version) for each in model.opset_import), functions, _graph(model.graph)


def _graph(graph: Any) -> Any:
    stored = sorted((each.name, _array(each)) for each in graph.initializer)
    inputs = [each.SerializeToString() for each in graph.input]
    return inputs, stored, [_node(each) for each in graph.node], [each.name for each in graph.output]


def _node(node: Any) -> Any:
    attributes = sorted((each.name, _attribute(each)) for each in node.attribute)
    return node.domain, node.op_type, list(node.input), list(node.output), attributes


def _attribute(attribute: Any) -> str:
    if attribute.HasField("g"):
        return repr(_graph(attribute.g))
    return repr(_array(attribute.t) if attribute.HasField("t") else attribute.SerializeToString())


def _array(tensor: Any) -> Any:
    from onnx import numpy_helper  # noqa: PLC0415  # slow to import

    values = numpy_helper.to_array(tensor)
    return tensor.data_type, values.shape, _digest(values.tobytes())


def _tflite(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as tfl  # noqa: PLC0415  # slow to import

    model = tfl.ModelT.InitFromObj(tfl.Model.GetRootAs(path.read_bytes(), 0))
    return [[_operator(model, graph, each) for each in graph.operators] for graph in model.subgraphs]


def _operator(model: Any, graph: Any, operator: Any) -> Any:
    code = model.operatorCodes[operator.opcodeIndex]
    options = [] if operator.builtinOptions is None else sorted(vars(operator.builtinOptions).items())
    read = [None if each < 0 else _tensor(model, graph.tensors[each]) for each in operator.inputs]
    written = [_tensor(model, graph.tensors[each]) for each in operator.outputs]
    return (
        code.builtinCode,
        code.version,
        [(name, np.asarray(value).tolist()) for name, value in options],
        read,
        written,
    )


def _tensor(model: Any, tensor: Any) -> Any:
    quant, data = tensor.quantization, model.buffers[tensor.buffer].data
    steps = None if quant is None or quant.scale is None else (list(quant.scale), list(quant.zeroPoint))
    axis = quant.quantizedDimension if steps is not None and len(steps[0]) > 1 else 0
    return list(tensor.shape), tensor.type, steps, axis, None if data is None else _digest(bytes(data))
