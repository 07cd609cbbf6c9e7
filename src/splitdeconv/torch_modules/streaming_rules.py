"""What each call of a traced module reads and makes on a streamed axis; a call without a rule is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import fx, nn
from torch.nn.utils import parametrize

from splitdeconv.deconv.streaming import NotStreamableError, Signal, joined
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE
from splitdeconv.torch_modules.streaming import GraphWalk
from splitdeconv.torch_modules.streaming_windows import (
    arguments,
    convolution_rule,
    deconv_rule,
    pool_rule,
    rank_of,
    source_of,
)

Rule = Callable[[GraphWalk, fx.Node], Signal | None]

_words = str.split
_ZERO_AT_ZERO = _words(
    "abs asin asinh atan celu ceil clone contiguous detach double dropout elu erf expm1 float floor gelu half "
    "hardswish hardtanh identity leaky_relu log1p mish neg prelu relu relu6 round rrelu selu sign silu sin sinh "
    "softshrink softsign sqrt square tan tanh tanhshrink to trunc type_as"
)
_LINEAR = ("add", "sub", "mul", "iadd", "isub", "imul")  # zero where all inputs are
_ELEMENTWISE = _words(
    "acos clamp clip cos cosh div eq exp floordiv ge gt hardsigmoid itruediv le log logsigmoid lt maximum minimum "
    "ne pow reciprocal rsqrt rsub sigmoid softplus truediv where"
)
_OVER_AXIS = _words("amax amin cumsum glu log_softmax logsoftmax logsumexp mean softmax std sum var")
_REASONS = {
    "adaptiveavgpool1d": "it averages the whole signal",
    "adaptiveavgpool2d": "it averages the whole signal",
    "groupnorm": "its mean and variance are those of the whole signal",
    "group_norm": "its mean and variance are those of the whole signal",
    "gru": "recurrent layers are not streamed",
    "instancenorm1d": "its mean and variance are those of the whole signal",
    "instancenorm2d": "its mean and variance are those of the whole signal",
    "instance_norm": "its mean and variance are those of the whole signal",
    "lstm": "recurrent layers are not streamed",
    "multiheadattention": "attention reads the whole signal",
    "scaled_dot_product_attention": "attention reads the whole signal",
}


def rule_for(walk: GraphWalk, node: fx.Node) -> Rule:
    """The rule of a call.

    Raises:
        NotStreamableError: there is none, with the reason.
    """
    name = _name(walk, node)
    if name in _RULES:
        return _RULES[name]
    raise NotStreamableError(_REASONS.get(name, "what it reads of the streamed axis is not known"))


def _name(walk: GraphWalk, node: fx.Node) -> str:
    """One name for a module's class, a function or a method that do the same."""
    if node.op == "call_module":
        module = walk.module.get_submodule(str(node.target))
        natives = [each for each in CONV_TRANSPOSE if isinstance(module, each)]
        return str((natives or [parametrize.type_before_parametrizations(module)])[0].__name__).lower()
    target = node.target
    return (target if isinstance(target, str) else str(getattr(target, "__name__", ""))).strip("_")


def _along(walk: GraphWalk, node: fx.Node) -> Signal:
    """The input's signal for a call that works within each place of the axis, without a negative delay."""
    value = source_of(walk, node)
    late = walk.delayed(value, max(0, walk.signals[value].delay))
    node.replace_input_with(value, late)
    return walk.signals[late]


def _elementwise(walk: GraphWalk, node: fx.Node) -> Signal:
    """Every element from those at its place."""
    rank, inputs = rank_of(node), node.all_input_nodes
    streamed = {each: walk.signals[each] for each in inputs if each in walk.signals}
    made = joined([replace(signal, axis=signal.axis + rank - rank_of(each)) for each, signal in streamed.items()])
    beside = len(streamed) < len(inputs) or any(isinstance(each, int | float) for each in node.args)
    for each in inputs:
        shape = getattr(each.meta.get("tensor_meta"), "shape", ())
        if each not in walk.signals and len(shape) >= rank - made.axis and shape[made.axis - rank] != 1:
            raise NotStreamableError(f"'{each.name}' has {shape[made.axis - rank]} values along the streamed axis")
    for each in streamed:
        node.replace_input_with(each, walk.delayed(each, made.delay))
    name = _name(walk, node)
    if name == "prelu" and made.axis == 1 and rank > 1:
        raise NotStreamableError("the streamed axis is that of its channels")
    keeps_zero = name in _ZERO_AT_ZERO or (name in _LINEAR and (not beside or name in ("mul", "imul")))
    return replace(made, zero_outside=made.zero_outside and keeps_zero)


def _batch_norm(walk: GraphWalk, node: fx.Node) -> Signal:
    signal = _along(walk, node)
    if signal.axis == 1:
        raise NotStreamableError("the streamed axis is that of its channels")
    if walk.module.get_submodule(str(node.target)).training:
        raise NotStreamableError("in training its mean and variance are those of the whole signal")
    return replace(signal, zero_outside=False)


def _over_axis(walk: GraphWalk, node: fx.Node) -> Signal:
    """What goes over axes, which must be others than the streamed one."""
    value = source_of(walk, node)
    signal, rank = _along(walk, node), rank_of(value)
    found = arguments(walk, node, ("dim", "keepdim"), {"dim": -1 if "glu" in _name(walk, node) else None})
    dims = found["dim"]
    if not isinstance(dims, int | tuple | list | None):
        raise NotStreamableError("which axes it goes over is not known")
    over = [dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank))]
    if signal.axis in over:
        raise NotStreamableError("it goes over the whole streamed axis")
    gone = rank - rank_of(node)
    return replace(
        signal, axis=signal.axis - (sum(dim < signal.axis for dim in over) if gone else 0), zero_outside=False
    )


def _layer_norm(walk: GraphWalk, node: fx.Node) -> Signal:
    signal, shape = _along(walk, node), arguments(walk, node, ("normalized_shape",), {})["normalized_shape"]
    if signal.axis >= rank_of(node) - len(shape):
        raise NotStreamableError("it goes over the whole streamed axis")
    return replace(signal, zero_outside=False)


def _linear(walk: GraphWalk, node: fx.Node) -> Signal:
    signal = _along(walk, node)
    if signal.axis == rank_of(node) - 1:
        raise NotStreamableError("it goes over the whole streamed axis")
    return replace(signal, zero_outside=False)


def _cat(walk: GraphWalk, node: fx.Node) -> Signal:
    parts = node.all_input_nodes
    if any(each not in walk.signals for each in parts):
        raise NotStreamableError("an input of it is not streamed")
    made = joined([walk.signals[each] for each in parts])
    if arguments(walk, node, ("dim",), {"dim": 0})["dim"] % rank_of(node) == made.axis:
        raise NotStreamableError("it puts maps behind each other on the streamed axis")
    for each in parts:
        node.replace_input_with(each, walk.delayed(each, made.delay))
    return made


def _parts(walk: GraphWalk, node: fx.Node) -> Signal:
    """Chunk and split, on another axis."""
    value = source_of(walk, node)
    if arguments(walk, node, ("size", "dim"), {"dim": 0})["dim"] % rank_of(value) == walk.signals[value].axis:
        raise NotStreamableError("it works along the streamed axis")
    return _along(walk, node)


def _transpose(walk: GraphWalk, node: fx.Node) -> Signal:
    value = source_of(walk, node)
    rank, given = rank_of(value), node.args[1:]
    order = list(range(rank))
    if _name(walk, node) == "permute":
        dims = given[0] if isinstance(given[0], tuple | list) else given
        order = [int(dim) % rank for dim in dims]
    else:
        one, other = (int(dim) % rank for dim in given)
        order[one], order[other] = other, one
    return replace(walk.signals[value], axis=order.index(walk.signals[value].axis))


def _unsqueeze(walk: GraphWalk, node: fx.Node) -> Signal:
    value = source_of(walk, node)
    signal, dim = walk.signals[value], arguments(walk, node, ("dim",), {})["dim"] % rank_of(node)
    return replace(signal, axis=signal.axis + (dim <= signal.axis))


def _squeeze(walk: GraphWalk, node: fx.Node) -> Signal:
    value = source_of(walk, node)
    signal, dim = walk.signals[value], arguments(walk, node, ("dim",), {"dim": None})["dim"]
    if not isinstance(dim, int) or dim % rank_of(value) == signal.axis:
        raise NotStreamableError("it may drop the streamed axis")
    dropped = rank_of(value) - rank_of(node)
    return replace(signal, axis=signal.axis - (dropped if dim % rank_of(value) < signal.axis else 0))


def _reshape(walk: GraphWalk, node: fx.Node) -> Signal:
    """A reshape that keeps the streamed axis as one, with as much in front of it and behind it."""
    value = source_of(walk, node)
    signal, given = walk.signals[value], node.args[1:]
    wanted = given[0] if isinstance(given[0], tuple | list) else given
    before, after = value.meta["tensor_meta"].shape, node.meta["tensor_meta"].shape
    for axis, size in enumerate(wanted):
        same = math.prod(after[:axis]) == math.prod(before[: signal.axis])
        if size == -1 and same and after[axis] == before[signal.axis]:
            return replace(signal, axis=axis)
    raise NotStreamableError("it does not keep the streamed axis as one of an open size")


def _size(walk: GraphWalk, node: fx.Node) -> None:
    """The size of another axis, which is the same for every chunk."""
    value = source_of(walk, node)
    dim = node.args[1] if len(node.args) > 1 else None
    if not isinstance(dim, int) or dim % rank_of(value) == walk.signals[value].axis:
        raise NotStreamableError("the length of the whole signal is not known")


def _getitem(walk: GraphWalk, node: fx.Node) -> Signal:
    """One of several results, or a part of a value."""
    source, index = source_of(walk, node), node.args[1]
    signal = walk.signals[source]
    if isinstance(index, int) and not hasattr(source.meta["tensor_meta"], "shape"):
        return signal
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (rank_of(source) - len(parts) + 1), *parts[at + 1 :])
    if not all(isinstance(each, slice | int) for each in parts):
        raise NotStreamableError("which part it takes is not known")
    part = parts[signal.axis] if signal.axis < len(parts) else slice(None)
    begin, end = (part.start or 0, part.stop) if isinstance(part, slice) else (None, None)
    if not isinstance(begin, int) or begin < 0 or not (end is None or (isinstance(end, int) and end < 0)) or part.step:
        raise NotStreamableError("it cuts at a place that depends on the length of the signal")
    node.args = (source, tuple(slice(None) if at == signal.axis else each for at, each in enumerate(parts)))
    gone = sum(isinstance(each, int) for each in parts[: signal.axis])
    return replace(signal, axis=signal.axis - gone).cropped(begin, -(end or 0))


def _pad(walk: GraphWalk, node: fx.Node) -> Signal:
    source, found = (
        source_of(walk, node),
        arguments(walk, node, ("pad", "mode", "value"), {"mode": "constant", "value": 0}),
    )
    if node.op == "call_module":
        found = {"mode": "constant", **arguments(walk, node, ("padding", "value"), {"value": 0})}
        found["pad"] = found["padding"]
    signal, pads = walk.signals[source], list(found["pad"])
    place = 2 * (rank_of(source) - 1 - signal.axis)
    begin, end = pads[place : place + 2] if place < len(pads) else (0, 0)
    if not begin and not end:
        return replace(_along(walk, node), zero_outside=False)
    if found["mode"] != "constant" or found["value"]:
        raise NotStreamableError("it puts something else than zeros at the ends of the signal")
    inner = walk.masked(source)
    kept = tuple(0 if place <= at < place + 2 else size for at, size in enumerate(pads))
    node.replace_input_with(source, inner)
    if node.op == "call_module":
        walk.module.get_submodule(str(node.target)).padding = kept
    else:
        node.args, node.kwargs = (inner, kept), {}
    return walk.signals[inner].cropped(-begin, -end)


def _interpolate(walk: GraphWalk, node: fx.Node) -> Signal:
    """Nearest upsampling by a whole factor."""
    value = source_of(walk, node)
    signal, spatial = _along(walk, node), rank_of(value) - 2
    names = ("size", "scale_factor", "mode")
    found = arguments(walk, node, names, {"size": None, "scale_factor": None, "mode": "nearest"})
    factors = found["scale_factor"]
    if found["size"] is not None or factors is None or not found["mode"].startswith("nearest") or signal.axis < 2:
        raise NotStreamableError("it is no nearest upsampling by a known factor")
    factor = (factors if isinstance(factors, tuple | list) else [factors] * spatial)[signal.axis - 2]
    if factor != int(factor):
        raise NotStreamableError("it is no nearest upsampling by a whole factor")
    return signal.repeated(int(factor))


_RULES: dict[str, Rule] = {
    **dict.fromkeys((*_ZERO_AT_ZERO, *_LINEAR, *_ELEMENTWISE), _elementwise),
    **{
        each.__name__.lower(): _elementwise
        for each in (
            *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Hardswish),
            *(nn.Softsign, nn.Dropout, nn.Identity, nn.ReLU6, nn.Hardtanh, nn.Sigmoid, nn.Softplus, nn.Hardsigmoid),
            *(nn.LogSigmoid, nn.PReLU, nn.Tanhshrink, nn.Softshrink),
        )
    },
    "leakyrelu": _elementwise,
    **dict.fromkeys(("dropout1d", "dropout2d", "dropout3d"), _elementwise),
    **dict.fromkeys(("batchnorm1d", "batchnorm2d", "batchnorm3d"), _batch_norm),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), convolution_rule),
    **dict.fromkeys(("convtranspose1d", "convtranspose2d", "convtranspose3d"), deconv_rule),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), deconv_rule),
    **dict.fromkeys(("avgpool1d", "avgpool2d", "maxpool1d", "maxpool2d", "avg_pool1d", "avg_pool2d"), pool_rule),
    **dict.fromkeys(_OVER_AXIS, _over_axis),
    **dict.fromkeys(("layernorm", "layer_norm"), _layer_norm),
    **dict.fromkeys(("interpolate", "upsample"), _interpolate),
    **dict.fromkeys(("pad", "constantpad1d", "constantpad2d", "zeropad1d", "zeropad2d"), _pad),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    **dict.fromkeys(("chunk", "split"), _parts),
    **dict.fromkeys(("permute", "transpose", "swapaxes"), _transpose),
    **dict.fromkeys(("reshape", "view"), _reshape),
    "getitem": _getitem,
    "linear": _linear,
    "size": _size,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
}
