"""Element-wise nodes after a deconv that may be done before the rearrangement, where runtimes fuse them.

Element-wise work commutes with moving pixels. A parameter per channel is repeated in the order of the convolution's
channels; everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from splitdeconv.deconv.ops import Size
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.crop import Crop, read_crop
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, Place, integer

# Operators with one data input; further inputs (Clip's bounds) must be constant scalars.
UNARY = frozenset(
    [
        *("Abs", "Celu", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
        *("Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid"),
        *("Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"),
    ]
)
# Operators with a data input and a parameter that is a scalar or has one value per channel.
BINARY = frozenset(["Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"])
NORM = "BatchNormalization"
_LONGEST = 64  # nodes of a chain; each is written anew for each convolution of a form
_BROADCASTING = 7  # from this opset on binary operators broadcast as NumPy does


@dataclass(frozen=True)
class Parameter:
    """A constant input of an element-wise node.

    Attributes:
        values: as the model has them.
        channel_axis: the axis that runs over the channels, or None for a scalar.
    """

    values: Array
    channel_axis: int | None


@dataclass(frozen=True)
class Stage:
    """One node of an epilogue.

    Attributes:
        node: the node in the model.
        data_input: which of its inputs carries the map.
        parameters: for each input its constant values; None for the map and for inputs that are absent.
    """

    node: ir.Node
    data_input: int
    parameters: tuple[Parameter | None, ...]


@dataclass(frozen=True)
class Tail:
    """What follows a deconv and becomes part of its site.

    Attributes:
        stages: element-wise nodes.
        crop: what all crops among them cut off together, or None without one.
        nodes: all of them, in order.
    """

    stages: tuple[Stage, ...]
    crop: Crop | None
    nodes: tuple[ir.Node, ...]


def find_tail(place: Place, rank: int, channels: int, sizes: Sequence[Size]) -> Tail:
    """The chain of element-wise nodes and crops behind the node at ``place``.

    It ends before a node that something else also reads from, or whose parameters are not constant or not per channel,
    and after ``_LONGEST`` nodes.

    Args:
        place: the deconv.
        rank: number of axes of its output, batch and channels included.
        channels: its output channels.
        sizes: its output's spatial sizes, None where unknown.
    """
    stages: list[Stage] = []
    nodes: list[ir.Node] = []
    crop: Crop | None = None
    value = place.node.outputs[0]
    while len(nodes) < _LONGEST and (use := only_use(value, place)) is not None:
        node, data_input = use
        stage = as_stage(node, data_input, place.opset, rank, channels)
        if stage is not None:
            stages.append(stage)
        elif (more := read_crop(node, data_input, place.opset, sizes)) is not None:
            crop = more if crop is None else crop.then(more)
            sizes = more.sizes_of(sizes)
        else:
            break
        nodes.append(node)
        value = node.outputs[0]
    return Tail(tuple(stages), crop, tuple(nodes))


def only_use(value: ir.Value, place: Place) -> tuple[ir.Node, int] | None:
    """The only reader of ``value``, a standard node of the same graph with one output in use, and which input it is."""
    uses = tuple(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = uses[0].node
    outputs = [output for output in node.outputs if output.uses() or output.is_graph_output()]
    same_graph = node.graph is place.node.graph
    standard = node.domain in STANDARD_DOMAINS
    return (node, uses[0].idx) if standard and same_graph and outputs == [node.outputs[0]] else None


def as_stage(node: ir.Node, data_input: int, opset: int, rank: int, channels: int) -> Stage | None:
    """``node`` as a stage of an epilogue of ``rank`` axes, or None where it does not work on each element alone."""
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return None
    if not _is_element_wise(node, data_input, opset):
        return None
    parameters: list[Parameter | None] = []
    for number, source in enumerate(node.inputs):
        if number == data_input or source is None:
            parameters.append(None)
            continue
        values = constant(source, opset)
        parameter = None if values is None else _parameter(node, values, rank, channels)
        if parameter is None:
            return None
        parameters.append(parameter)
    return Stage(node, data_input, tuple(parameters))


def _is_element_wise(node: ir.Node, data_input: int, opset: int) -> bool:
    """Whether the operator works on each element, given fitting parameters."""
    if node.op_type in BINARY:
        return opset >= _BROADCASTING and (data_input == 0 or node.op_type != "PRelu")
    if data_input != 0:
        return False
    return node.op_type in UNARY or (node.op_type == NORM and _is_inference(node, opset))


def _parameter(node: ir.Node, values: Array, rank: int, channels: int) -> Parameter | None:
    """``values`` as a scalar or per-channel parameter of ``node``, or None where they are neither."""
    if node.op_type == NORM:
        return Parameter(values, 0) if values.shape == (channels,) else None
    if values.size == 1 and values.ndim <= rank:
        return Parameter(values, None)
    axis = values.ndim - (rank - 1)
    per_channel = axis in (0, 1) and values.size == channels and values.shape[axis] == channels
    return Parameter(values, axis) if per_channel and node.op_type in BINARY else None


def _is_inference(node: ir.Node, opset: int) -> bool:
    """Whether a BatchNormalization only normalises: no training mode, no other output, per channel."""
    if integer(node, "training_mode", 0):
        return False
    return opset >= _BROADCASTING or bool(integer(node, "is_test", 0))
