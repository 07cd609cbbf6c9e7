"""A convolution of a stretched map as a site: the operator's options, its weights, and the deconv that they make."""

from __future__ import annotations

from dataclasses import replace

from splitdeconv.deconv.written import is_requantised
from splitdeconv.errors import InputError
from splitdeconv.formats.tflite.epilogue import find_epilogue
from splitdeconv.formats.tflite.geometry import FILTER_AXES, conv_geometry
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.operands import LeftAlone, arithmetic, constant_operand
from splitdeconv.formats.tflite.schema import ACTIVATIONS
from splitdeconv.formats.tflite.stretched import StretchedTensor, TensorSearch
from splitdeconv.formats.written_convs import (
    CUT_OFF,
    QUANTISED_ANEW,
    RANGE_INTERPOLATED,
    ROUNDED_TWICE,
    SUMS_DO_NOT_FIT,
    UNLESS_ASKED,
)
from splitdeconv.results.plan import Skipped


def map_place(graph: Graph, operator: int) -> int:
    """Which operand of a convolution is the map."""
    return 2 if graph.name(operator) == "TRANSPOSE_CONV" else 0


def stretched_at(graph: Graph, operator: int) -> StretchedTensor | str | None:
    """The stretched map that a convolution reads and what it does; or why it is left alone; or None without one."""
    geometry = conv_geometry(graph, operator)
    if geometry is None:
        return None
    x = graph.inputs_of(operator)[map_place(graph, operator)]
    if len(graph.shape(x)) != len(geometry.kernel) + 2:
        return None
    return TensorSearch(graph, x, geometry).find()


def read_stretched(name: str, graph: Graph, operator: int, stretched: StretchedTensor, numerics: str) -> Node | Skipped:
    """The convolution as a site, or the reason why it cannot be one.

    Raises:
        InputError: the operator contradicts its input.
    """
    try:
        return _read(name, graph, operator, stretched, numerics)
    except LeftAlone as reason:
        return Skipped(name, graph.describe(), str(reason))


def _read(name: str, graph: Graph, operator: int, stretched: StretchedTensor, numerics: str) -> Node:
    kind, operands, (output, *_) = graph.name(operator), graph.inputs_of(operator), graph.outputs_of(operator)
    place = map_place(graph, operator)
    kernel = constant_operand(graph, operands[1], "weights")
    last = max(place, 1) + 1
    bias = constant_operand(graph, operands[last], "bias") if len(operands) > last and operands[last] >= 0 else None
    activation = graph.operators[operator].builtinOptions.fusedActivationFunction
    if activation not in ACTIVATIONS:
        raise LeftAlone(f"fused activation {activation} is none that all convolutions have")
    weight = graph.shape(kernel.tensor)
    outputs = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    dtype, quant = arithmetic(graph, kernel, operands[place], output, outputs)
    out_channels = weight[0 if kind == "TRANSPOSE_CONV" else FILTER_AXES[kind][0]] or 0
    try:
        deconv = stretched.deconv(stretched.shape, out_channels)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    if any(found not in (None, size) for found, size in zip(graph.shape(output)[1:-1], deconv.out_sizes, strict=True)):
        raise LeftAlone(f"its recorded output shape {graph.shape(output)} is not the one that it makes")
    if quant is not None and stretched.part is not None:
        raise LeftAlone(ROUNDED_TWICE)
    if quant is not None and stretched.interpolation is not None:
        raise LeftAlone(RANGE_INTERPOLATED)
    epilogue = find_epilogue(graph, operator, numerics, len(deconv.axes))
    if stretched.interpolation is not None and any((*epilogue.begin, *epilogue.end)):
        raise LeftAlone(CUT_OFF)
    deconv = epilogue.applied(replace(deconv, dtype=dtype, has_bias=bias is not None, quant=quant))
    anew = is_requantised(deconv)
    if anew and (kind != "CONV_2D" or dtype != "int8"):
        raise LeftAlone(SUMS_DO_NOT_FIT)
    if anew and numerics != "requantised":
        raise LeftAlone(UNLESS_ASKED)
    notes = stretched.notes(map(graph.name, stretched.nodes), lambda tensor: text(graph.tensors[tensor].name))
    notes += [QUANTISED_ANEW] if anew else []
    return Node(
        name,
        graph,
        operator,
        deconv,
        stretched.source,
        operands[place],
        output,
        kernel,
        bias,
        epilogue,
        tuple(notes),
        stretched,
    )
