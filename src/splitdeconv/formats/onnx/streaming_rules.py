"""What each operator of ONNX reads and makes on a streamed axis; an operator without a rule is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.layers import ConvAxis
from splitdeconv.deconv.ops import Size
from splitdeconv.deconv.spec import Axis
from splitdeconv.deconv.streaming import NotStreamableError, Signal, convolution, joined, transposed
from splitdeconv.formats.onnx.constants import constant, integers
from splitdeconv.formats.onnx.geometry import RunTimeGeometryError, axes_from, conv_axes, read_attributes
from splitdeconv.formats.onnx.graph import integer
from splitdeconv.formats.onnx.streaming_walk import Walk

Rule = Callable[[Walk, ir.Node], Signal]

_OPEN_END = 2**31 - 1  # ends from here on mean "to the end"
_LARGE = 2**20  # a size with which automatic pads are read where the size is open
_words = str.split
_ZERO_AT_ZERO = _words(
    "Abs Asin Asinh Atan Atanh Cast Ceil Celu Dropout Elu Erf Floor Gelu HardSwish Identity LeakyRelu Mish Neg "
    "PRelu Relu Round Selu Sign Sin Sinh Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_LINEAR = ("Add", "Mean", "Mul", "Sub", "Sum")  # zero where all inputs are
_ELEMENTWISE = _words(
    "Acos And BitShift Clip Cos Cosh Div Equal Exp Greater GreaterOrEqual HardSigmoid IsInf IsNaN Less "
    "LessOrEqual Log Max Min Mod Not Or Pow Reciprocal Sigmoid Softplus Where Xor"
)
_REASONS = {
    "Attention": "attention reads the whole signal",
    "CumSum": "it adds up the whole signal",
    "GlobalAveragePool": "it averages the whole signal",
    "GlobalMaxPool": "it takes the largest of the whole signal",
    "GroupNormalization": "its mean and variance are those of the whole signal",
    "GRU": "recurrent layers are not streamed",
    "InstanceNormalization": "its mean and variance are those of the whole signal",
    "LSTM": "recurrent layers are not streamed",
    "RNN": "recurrent layers are not streamed",
    "Shape": "the length of the whole signal is not known",
    "Size": "the length of the whole signal is not known",
}


def rule_for(node: ir.Node) -> Rule:
    """The rule of a node.

    Raises:
        NotStreamableError: there is none, with the reason.
    """
    if node.op_type not in _RULES:
        raise NotStreamableError(_REASONS.get(node.op_type, "what it reads of the streamed axis is not known"))
    return _RULES[node.op_type]


def _elementwise(walk: Walk, node: ir.Node) -> Signal:
    """Every element from those at its place."""
    rank = max(walk.rank(value) for value in node.inputs if value is not None and value.name)
    streamed, beside = {}, False
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value in walk.signals:
            signal = walk.signals[value]
            streamed[index] = replace(signal, axis=signal.axis + rank - walk.rank(value))
        else:
            beside = True
    made = joined(list(streamed.values()))
    for value in node.inputs:
        if value is not None and value not in walk.signals:
            _check_constant(walk, value, made.axis - rank)
    for index, value in enumerate(node.inputs):
        if value is not None and index in streamed:
            node.replace_input_with(index, walk.delayed(value, made.delay))
    unary = node.op_type in _ZERO_AT_ZERO
    keeps_zero = unary or (node.op_type in _LINEAR and (not beside or node.op_type == "Mul"))
    return replace(made, zero_outside=made.zero_outside and keeps_zero)


def _check_constant(walk: Walk, value: ir.Value, axis: int) -> None:
    """Check that a value beside a streamed one is the same along the axis, which is counted from the end."""
    shape = walk.shape(value)
    if len(shape) >= -axis and shape[axis] != 1:
        raise NotStreamableError(f"'{value.name}' has {shape[axis] or 'several'} values along the streamed axis")


def _along(walk: Walk, node: ir.Node, index: int = 0) -> Signal:
    """The first input's signal for an operator that works within each place of the axis, without a negative delay."""
    value = node.inputs[index]
    if value is None or value not in walk.signals:
        raise NotStreamableError("only its first input may be streamed")
    if any(other in walk.signals for at, other in enumerate(node.inputs) if at != index and other is not None):
        raise NotStreamableError("only its first input may be streamed")
    signal = walk.signals[value]
    source = walk.delayed(value, max(0, signal.delay))
    node.replace_input_with(index, source)
    return walk.signals[source]


def _batch_normalization(walk: Walk, node: ir.Node) -> Signal:
    signal = _along(walk, node)
    if signal.axis == 1:
        raise NotStreamableError("the streamed axis is that of its channels")
    if len(node.outputs) > 1 or integer(node, "training_mode", 0):
        raise NotStreamableError("in training its mean and variance are those of the whole signal")
    return replace(signal, zero_outside=False)


def _quantiser(walk: Walk, node: ir.Node) -> Signal:
    signal, scale = _along(walk, node), node.inputs[1]
    rank = walk.rank(_first(node))
    if scale is not None and len(walk.shape(scale)) and integer(node, "axis", 1) % rank == signal.axis:
        raise NotStreamableError("its scales differ along the streamed axis")
    return replace(signal, zero_outside=False)


def _over_one_axis(walk: Walk, node: ir.Node) -> Signal:
    """Softmax and the like, over another axis."""
    signal, rank = _along(walk, node), walk.rank(_first(node))
    default = -1 if walk.opset >= 13 else 1
    axis = integer(node, "axis", default) % rank
    whole = axis <= signal.axis if walk.opset < 13 or node.op_type == "LayerNormalization" else axis == signal.axis
    if whole:
        raise NotStreamableError("it goes over the whole streamed axis")
    return replace(signal, zero_outside=False)


def _reduction(walk: Walk, node: ir.Node) -> Signal:
    signal, rank = _along(walk, node), walk.rank(_first(node))
    axes = integers(node, 1, "axes", walk.opset)
    if not axes or signal.axis in [axis % rank for axis in axes]:
        raise NotStreamableError("it goes over the whole streamed axis")
    gone = sum(axis % rank < signal.axis for axis in axes) if not integer(node, "keepdims", 1) else 0
    return replace(signal, axis=signal.axis - gone, zero_outside=False)


def _concat(walk: Walk, node: ir.Node) -> Signal:
    values = [value for value in node.inputs if value is not None]
    if any(value not in walk.signals for value in values):
        raise NotStreamableError("an input of it is not streamed")
    made = joined([walk.signals[value] for value in values])
    if integer(node, "axis", 0) % walk.rank(values[0]) == made.axis:
        raise NotStreamableError("it puts maps behind each other on the streamed axis")
    for index, value in enumerate(values):
        node.replace_input_with(index, walk.delayed(value, made.delay))
    return made


def _elsewhere(walk: Walk, node: ir.Node) -> Signal:
    """Split and Gather on another axis."""
    signal, rank = _along(walk, node), walk.rank(_first(node))
    if integer(node, "axis", 0) % rank == signal.axis:
        raise NotStreamableError("it works along the streamed axis")
    if node.op_type == "Gather" and integer(node, "axis", 0) % rank < signal.axis:
        indices = node.inputs[1]
        signal = replace(signal, axis=signal.axis + (len(walk.shape(indices)) if indices else 1) - 1)
    return signal


def _transpose(walk: Walk, node: ir.Node) -> Signal:
    value = _first(node)
    signal, order = walk.signals[value], node.attributes.get("perm")
    axes = list(order.as_ints()) if order else list(reversed(range(walk.rank(value))))
    return replace(signal, axis=axes.index(signal.axis))


def _squeeze(walk: Walk, node: ir.Node) -> Signal:
    value = _first(node)
    signal, rank = walk.signals[value], walk.rank(value)
    axes = [axis % rank for axis in integers(node, 1, "axes", walk.opset) or ()]
    if not axes or signal.axis in axes:
        raise NotStreamableError("it may drop the streamed axis")
    return replace(signal, axis=signal.axis - sum(axis < signal.axis for axis in axes))


def _unsqueeze(walk: Walk, node: ir.Node) -> Signal:
    value = _first(node)
    signal, axes = walk.signals[value], integers(node, 1, "axes", walk.opset) or ()
    rank = walk.rank(value) + len(axes)
    new = {axis % rank for axis in axes}
    return replace(signal, axis=[axis for axis in range(rank) if axis not in new][signal.axis])


def _reshape(walk: Walk, node: ir.Node) -> Signal:
    """A Reshape that keeps the streamed axis as one, with as much in front of it and behind it."""
    value = _first(node)
    signal, shape, wanted = walk.signals[value], walk.shape(value), integers(node, 1, "shape", walk.opset)
    if wanted is None or integer(node, "allowzero", 0):
        raise NotStreamableError("its shape is computed")
    sizes = [shape[at] if size == 0 and at < len(shape) else size for at, size in enumerate(wanted)]
    for at, size in enumerate(wanted):
        same = _product(sizes[:at]) == _product(shape[: signal.axis]) is not None
        same = same and _product(sizes[at + 1 :]) == _product(shape[signal.axis + 1 :]) is not None
        if same and (size == -1 or (size == 0 and at == signal.axis)):
            return replace(signal, axis=at)
    raise NotStreamableError("it does not keep the streamed axis as one of an open size")


def _product(sizes: Sequence[Size]) -> tuple[int, int] | None:
    """What the known sizes make, and how many are unknown; None where one is computed."""
    if -1 in sizes:
        return None
    return math.prod(size for size in sizes if size is not None), sum(size is None for size in sizes)


def _matmul(walk: Walk, node: ir.Node) -> Signal:
    """A product with a matrix that is not streamed, along the last axis."""
    signal = _along(walk, node)
    if signal.axis == walk.rank(_first(node)) - 1:
        raise NotStreamableError("it goes over the whole streamed axis")
    weight = node.inputs[1]
    if weight is None or len(walk.shape(weight)) != 2:
        raise NotStreamableError("its second input is no matrix")
    return replace(signal, zero_outside=False)


def _slice(walk: Walk, node: ir.Node) -> Signal:
    value = _first(node)
    signal, rank = walk.signals[value], walk.rank(value)
    names = enumerate(("starts", "ends", "axes", "steps"), start=1)
    starts, ends, axes, steps = (integers(node, place, name, walk.opset) for place, name in names)
    if starts is None or ends is None or (axes is None and len(node.inputs) > 3):
        raise NotStreamableError("where it cuts is computed")
    cut = {axis % rank: place for place, axis in enumerate(range(len(starts)) if axes is None else axes)}
    if signal.axis not in cut:
        return walk.signals[_first(node)] if signal.delay >= 0 else _along(walk, node)
    place = cut[signal.axis]
    start, end = starts[place], ends[place]
    if (steps and steps[place] != 1) or start < 0 or 0 <= end < _OPEN_END:
        raise NotStreamableError("it cuts at a place that depends on the length of the signal")
    for name, lists_ in (("starts", starts), ("ends", ends)):
        kept = [(0 if name == "starts" else _OPEN_END) if at == place else number for at, number in enumerate(lists_)]
        node.replace_input_with(1 if name == "starts" else 2, walk.writer.integers(name, kept))
    return signal.cropped(start, -end if end < 0 else 0)


def _pad(walk: Walk, node: ir.Node) -> Signal:
    value = _first(node)
    signal, rank, pads = walk.signals[value], walk.rank(value), integers(node, 1, "pads", walk.opset)
    axes = integers(node, 3, "axes", walk.opset, absent=list(range(rank)))
    if pads is None or axes is None:
        raise NotStreamableError("its pads are computed")
    places = [at for at, axis in enumerate(axes) if axis % rank == signal.axis]
    begin, end = (pads[places[0]], pads[len(axes) + places[0]]) if places else (0, 0)
    if not begin and not end:
        return replace(_along(walk, node), zero_outside=False)
    mode = node.attributes.get("mode")
    filling = node.inputs[2] if len(node.inputs) > 2 else None
    number = constant(filling, walk.opset) if filling is not None else np.zeros(1)
    if (mode and mode.as_string() != "constant") or number is None or number.any():
        raise NotStreamableError("it puts something else than zeros at the ends of the signal")
    source = walk.masked(value)
    node.replace_input_with(0, source)
    kept = [0 if at % len(axes) == places[0] else size for at, size in enumerate(pads)]
    node.replace_input_with(1, walk.writer.integers("pads", kept))
    return walk.signals[source].cropped(-begin, -end)


def _resize(walk: Walk, node: ir.Node) -> Signal:
    """Nearest upsampling by a whole factor."""
    signal = _along(walk, node)
    attributes = read_attributes(node)
    scales = constant(node.inputs[2], walk.opset) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if scales is None or len(scales) != walk.rank(_first(node)) or attributes.get("axes"):
        raise NotStreamableError("its factors are not known, only the sizes that it makes")
    factor, mode = float(scales[signal.axis]), attributes.get("mode") or "nearest"
    coordinates = attributes.get("coordinate_transformation_mode") or "half_pixel"
    asymmetric = coordinates == "asymmetric" and (attributes.get("nearest_mode") or "round_prefer_floor") == "floor"
    if factor == 1:
        return replace(signal, zero_outside=False)
    if mode != "nearest" or factor != int(factor) or not (asymmetric or coordinates == "tf_half_pixel_for_nn"):
        raise NotStreamableError("it is no nearest upsampling by a whole factor")
    return signal.repeated(int(factor))


def _convolution(walk: Walk, node: ir.Node) -> Signal:
    """Conv and pools: kept samples instead of pads."""
    value, weight = _first(node), node.inputs[1] if node.op_type == "Conv" else None
    signal, attributes = walk.signals[value], dict(read_attributes(node))
    kernel = [size or 0 for size in walk.shape(weight)[2:]] if weight else attributes["kernel_shape"]
    if any(other in walk.signals for other in node.inputs[1:] if other is not None):
        raise NotStreamableError("its weights are streamed")
    if len(node.outputs) > 1:
        raise NotStreamableError("it tells places in the whole signal")
    if signal.axis < 2 or attributes.get("ceil_mode"):
        raise NotStreamableError("the streamed axis is none of its spatial ones, or it rounds sizes up")
    at = signal.axis - 2
    axis, pads = _pads(walk, value, attributes, kernel, at, signal)
    if node.op_type != "Conv" and (axis.pad_begin or axis.pad_end):
        raise NotStreamableError("it pads the streamed axis")
    source = walk.masked(value) if axis.pad_begin or axis.pad_end else value
    reach, made = convolution(walk.signals[source], axis)
    node.replace_input_with(0, walk.read(source, reach))
    node.attributes.pop("auto_pad", None)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    return made


def _pads(
    walk: Walk, value: ir.Value, attributes: dict[str, object], kernel: Sequence[int], at: int, signal: Signal
) -> tuple[ConvAxis, list[int]]:
    """The streamed axis of a convolution, and all pads without its own."""
    known = list(walk.shape(value)[2:])
    strides = attributes.get("strides") or [1] * len(kernel)
    assert isinstance(strides, Sequence)
    known[at] = strides[at] * _LARGE + signal.extra
    automatic = str(attributes.get("auto_pad") or "NOTSET")
    if automatic.startswith("SAME") and None in known:
        raise NotStreamableError("its automatic pads depend on sizes that are open")
    axes = conv_axes(attributes, kernel, [_LARGE if size is None else size for size in known])
    ends = [
        [0 if place == at else getattr(axis, name) for place, axis in enumerate(axes)]
        for name in ("pad_begin", "pad_end")
    ]
    return axes[at], [*ends[0], *ends[1]]


def _transposed(walk: Walk, node: ir.Node) -> Signal:
    """ConvTranspose: kept inputs, and pads that cut what belongs to other chunks."""
    value, weight = _first(node), node.inputs[1]
    if weight is None or any(other in walk.signals for other in node.inputs[1:] if other is not None):
        raise NotStreamableError("its weights are streamed")
    source = walk.masked(value)
    signal, attributes = walk.signals[source], read_attributes(node)
    if signal.axis < 2:
        raise NotStreamableError("the streamed axis is none of its spatial ones")
    at, shape = signal.axis - 2, walk.shape(value)
    try:
        axes = list(axes_from(attributes, [size or 0 for size in walk.shape(weight)[2:]], shape[2:]))
    except RunTimeGeometryError as error:
        raise NotStreamableError(str(error)) from None
    reach, axes[at], made = transposed(signal, axes[at])
    node.replace_input_with(0, walk.read(source, reach))
    _set_axes(node, axes)
    return made


def _set_axes(node: ir.Node, axes: Sequence[Axis]) -> None:
    for name in ("auto_pad", "output_shape"):
        node.attributes.pop(name, None)
    ends = [axis.pad_begin for axis in axes] + [axis.pad_end for axis in axes]
    node.attributes["pads"] = ir.AttrInt64s("pads", ends)
    node.attributes["output_padding"] = ir.AttrInt64s("output_padding", [axis.output_pad for axis in axes])


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    if value is None:
        raise NotStreamableError("it has no first input")
    return value


_RULES: dict[str, Rule] = {
    **dict.fromkeys((*_ZERO_AT_ZERO, *_LINEAR, *_ELEMENTWISE), _elementwise),
    **dict.fromkeys(("AveragePool", "Conv", "LpPool", "MaxPool"), _convolution),
    **dict.fromkeys(("Hardmax", "LayerNormalization", "LogSoftmax", "Softmax"), _over_one_axis),
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        _reduction,
    ),
    **dict.fromkeys(("Gather", "Split"), _elsewhere),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _quantiser),
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
