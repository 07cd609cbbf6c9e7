"""A convolution of a stretched map as a site: the operator's options, its weights, and the deconv that they make."""

from __future__ import annotations

from dataclasses import replace

from splitdeconv.deconv.requantised import is_requantised
from splitdeconv.errors import InputError
from splitdeconv.formats.tflite.epilogue import find_epilogue
from splitdeconv.formats.tflite.geometry import FILTER_AXES, conv_geometry
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.node import Node, WrittenConv
from splitdeconv.formats.tflite.operands import LeftAlone, arithmetic, constant_operand
from splitdeconv.formats.tflite.schema import ACTIVATIONS
from splitdeconv.formats.tflite.stretched import StretchedTensor, find_part, find_stretched
from splitdeconv.formats.written_convs import (
    GROUPED_SKIP,
    QUANTISED_ANEW,
    ROUNDED_TWICE,
    SUMS_DO_NOT_FIT,
    UNLESS_ASKED,
    beside,
    left_note,
    stretched_note,
    why_left,
    written_deconv,
)
from splitdeconv.results.plan import Skipped


def map_place(graph: Graph, operator: int) -> int:
    """Which operand of a convolution is the map."""
    return 2 if graph.name(operator) == "TRANSPOSE_CONV" else 0


def stretched_at(graph: Graph, operator: int) -> WrittenConv | str | None:
    """The stretched map that a convolution reads and what it does; or why it is left alone; or None without one."""
    geometry = conv_geometry(graph, operator)
    if geometry is None:
        return None
    x = graph.inputs_of(operator)[map_place(graph, operator)]
    if len(graph.shape(x)) != len(geometry.kernel) + 2:
        return None
    found = find_stretched(graph, x, geometry.pads)
    if not isinstance(found, StretchedTensor) and not geometry.turned:
        found = find_part(graph, x, geometry.pads) or found
    if not isinstance(found, StretchedTensor):
        return found
    if found.part is not None and geometry.groups > 1:
        return GROUPED_SKIP
    return why_left(found.kind, found.axes, geometry) or WrittenConv(found, geometry)


def read_stretched(name: str, graph: Graph, operator: int, written: WrittenConv, numerics: str) -> Node | Skipped:
    """The convolution as a site, or the reason why it cannot be one.

    Raises:
        InputError: the operator contradicts its input.
    """
    try:
        return _read(name, graph, operator, written, numerics)
    except LeftAlone as reason:
        return Skipped(name, graph.describe(), str(reason))


def _read(name: str, graph: Graph, operator: int, written: WrittenConv, numerics: str) -> Node:
    kind, operands, (output, *_) = graph.name(operator), graph.inputs_of(operator), graph.outputs_of(operator)
    place, stretched, geometry = map_place(graph, operator), written.stretched, written.geometry
    kernel = constant_operand(graph, operands[1], "weights")
    last = max(place, 1) + 1
    bias = constant_operand(graph, operands[last], "bias") if len(operands) > last and operands[last] >= 0 else None
    activation = graph.operators[operator].builtinOptions.fusedActivationFunction
    if activation not in ACTIVATIONS:
        raise LeftAlone(f"fused activation {activation} is none that all convolutions have")
    weight = graph.shape(kernel.tensor)
    outputs = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    dtype, quant = arithmetic(graph, kernel, operands[place], output, outputs)
    part = stretched.part
    channels = (
        (part.count if part else graph.shape(operands[place])[-1]) or 0,
        weight[0 if kind == "TRANSPOSE_CONV" else FILTER_AXES[kind][0]] or 0,
    )
    batch, *sizes = stretched.small_sizes()
    try:
        deconv = written_deconv(stretched.kind, stretched.axes, geometry, channels, batch, sizes)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    if any(found not in (None, size) for found, size in zip(graph.shape(output)[1:-1], deconv.out_sizes, strict=True)):
        raise LeftAlone(f"its recorded output shape {graph.shape(output)} is not the one that it makes")
    if quant is not None and part is not None:
        raise LeftAlone(ROUNDED_TWICE)
    if part is not None:
        deconv = beside(deconv, part.total - part.count, stretched.axes, stretched.zeros)
    epilogue = find_epilogue(graph, operator, numerics, len(sizes))
    deconv = epilogue.applied(replace(deconv, dtype=dtype, has_bias=bias is not None, quant=quant))
    anew = is_requantised(deconv)
    if anew and (kind != "CONV_2D" or dtype != "int8"):
        raise LeftAlone(SUMS_DO_NOT_FIT)
    if anew and numerics != "requantised":
        raise LeftAlone(UNLESS_ASKED)
    names = [graph.name(each) for each in reversed(stretched.operators)]
    kept = None if stretched.kept is None else text(graph.tensors[stretched.kept].name)
    notes = [
        stretched_note(stretched.kind, [axis.factor for axis in stretched.axes], names, kept),
        *([QUANTISED_ANEW] if anew else []),
    ]
    notes += [left_note([text(graph.tensors[each].name) for each in stretched.left])] if stretched.left else []
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
        written,
    )
