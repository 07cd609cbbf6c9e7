"""What the operators of a site read: constants, types and quantisation, or why the site is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.spec import Quant
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.constants import folded
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.units import dequantised

_FLOATS = ("float32", "float16")
_QUANTISED = {("int8", "int8"), ("uint8", "uint8"), ("int16", "int8")}


class LeftAlone(Exception):  # noqa: N818  # not an error: a reason on its way out
    """Why a deconv cannot be rewritten."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant operand.

    Attributes:
        tensor: index of the tensor that holds the values.
        operand: index of the tensor that the operator reads: the same, or what a DEQUANTIZE makes of it.
    """

    tensor: int
    operand: int


def constant_operand(graph: Graph, operand: int, what: str) -> Constant:
    """A constant, maybe behind a DEQUANTIZE, and behind operators that move its elements.

    Raises:
        LeftAlone: it is none; ``what`` it is stands in the reason.
    """
    producer = graph.producer(operand)
    if producer is not None and graph.name(producer) == "DEQUANTIZE":
        (tensor, *_) = graph.inputs_of(producer)
        if folded(graph, tensor) is not None:
            return Constant(tensor, operand)
    if folded(graph, operand) is not None:
        return Constant(operand, operand)
    found = graph.tensors[operand]
    if found.sparsity is not None:
        raise LeftAlone(f"its {what} are stored sparse")
    if producer is None and graph.root.buffers[found.buffer].data is not None:
        raise LeftAlone(f"its {what} are of type {graph.type_name(operand)}, which is not read here")
    raise LeftAlone(f"its {what} are not constant: they are {'an input' if producer is None else 'computed'}")


def arithmetic(graph: Graph, kernel: Constant, source: int, output: int, outputs: int = 0) -> tuple[str, Quant | None]:
    """Arithmetic and quantisation; the type of the weights decides how they meet the input.

    Args:
        graph: the subgraph.
        kernel: the weights.
        source, output: the maps.
        outputs: axis of the weights that holds the output channels.

    Raises:
        LeftAlone: combinations that are not supported.
    """
    activation, weight = graph.type_name(source), graph.type_name(kernel.tensor)
    operand = graph.type_name(kernel.operand)
    if graph.type_name(output) != activation:
        raise LeftAlone(f"its input is {activation}, its output {graph.type_name(output)}")
    if activation == "float32" and operand in _FLOATS:
        return "float32", None
    quantization = graph.tensors[kernel.tensor].quantization
    scales = 0 if quantization is None or quantization.scale is None else len(quantization.scale)
    if scales > 1 and quantization.quantizedDimension != outputs:
        axis = quantization.quantizedDimension
        raise LeftAlone(f"its weights are quantised along axis {axis}, not the outputs' ({outputs})")
    if activation == "float32" and weight == "int8" and scales:
        return "float32", Quant("float32", "int8", scales > 1)
    if (activation, weight) not in _QUANTISED:
        raise LeftAlone(f"activations of {activation} with weights of {weight} are not supported")
    if not scales or not all(_scale_count(graph.tensors[tensor]) == 1 for tensor in (source, output)):
        raise LeftAlone("its quantisation is incomplete")
    return activation, Quant(activation, weight, scales > 1)


def _scale_count(tensor: Any) -> int:
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return 0 if scale is None else len(scale)


def float_values(graph: Graph, constant: Constant) -> Array:
    """The values that an operator reads of a constant: as stored, or as a DEQUANTIZE makes them, in float32."""
    stored = folded(graph, constant.tensor)
    assert stored is not None, "constants have values"
    if constant.tensor == constant.operand:
        return stored.astype(np.float32)
    return dequantised(stored, graph.tensors[constant.tensor])
