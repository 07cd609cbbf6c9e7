"""What calls read and make that go over windows of the streamed axis: convolutions, pools and deconvs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from splitdeconv.deconv.layers import ConvAxis
from splitdeconv.deconv.spec import Axis
from splitdeconv.deconv.streaming import NotStreamableError, Signal, convolution, transposed
from splitdeconv.torch_modules.functions import pads_around, per_axis
from splitdeconv.torch_modules.streaming import GraphWalk


def arguments(walk: GraphWalk, node: fx.Node, names: Sequence[str], defaults: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; those of a module are its attributes."""
    if node.op == "call_module":
        module = walk.module.get_submodule(str(node.target))
        return {name: getattr(module, name, defaults.get(name)) for name in names}
    return {**defaults, **dict(zip(names, node.args[1:], strict=False)), **node.kwargs}


def source_of(walk: GraphWalk, node: fx.Node) -> fx.Node:
    """The streamed input of a call whose other inputs are not."""
    source = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(source, fx.Node) or source not in walk.signals:
        raise NotStreamableError("only its first input may be streamed")
    if any(each in walk.signals for each in node.all_input_nodes if each is not source):
        raise NotStreamableError("only its first input may be streamed")
    return source


def rank_of(node: fx.Node) -> int:
    """Number of axes of a value."""
    return len(node.meta["tensor_meta"].shape)


_CONV = ("weight", "bias", "stride", "padding", "dilation", "groups")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")


def convolution_rule(walk: GraphWalk, node: fx.Node) -> Signal:
    """Convolutions: kept samples instead of pads."""
    value = source_of(walk, node)
    signal, spatial = walk.signals[value], rank_of(value) - 2
    if signal.axis < 2:
        raise NotStreamableError("the streamed axis is none of its spatial ones")
    module = walk.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if module is not None and module in walk.rewritten:
        axes = walk.rewritten[module]
    else:
        if module is not None and module.padding_mode != "zeros":
            raise NotStreamableError(f"it pads by {module.padding_mode}, not with zeros")
        axes = _conv_axes(walk, node, spatial)
        _set_pads(walk, node, module, axes, signal.axis - 2)
    axis = axes[signal.axis - 2]
    inner = walk.masked(value) if axis.pad_begin or axis.pad_end else value
    reach, made = convolution(walk.signals[inner], axis)
    node.replace_input_with(value, walk.read(inner, reach))
    return made


def _conv_axes(walk: GraphWalk, node: fx.Node, spatial: int) -> list[ConvAxis]:
    defaults = {"stride": 1, "padding": 0, "dilation": 1}
    found = arguments(walk, node, _CONV, defaults)
    weight = found["weight"]
    kernel = weight.meta["tensor_meta"].shape[2:] if isinstance(weight, fx.Node) else weight.shape[2:]
    strides, dilations = (per_axis(found[name], spatial) for name in ("stride", "dilation"))
    pads = pads_around(found["padding"], kernel, dilations)
    return [
        ConvAxis(1, size, stride, dilation, *pad)
        for size, stride, dilation, pad in zip(kernel, strides, dilations, pads, strict=True)
    ]


def _set_pads(walk: GraphWalk, node: fx.Node, module: Any, axes: list[ConvAxis], at: int) -> None:
    """Give a convolution no pads on the streamed axis."""
    others = [axis for place, axis in enumerate(axes) if place != at]
    if any(axis.pad_begin != axis.pad_end for axis in others):
        raise NotStreamableError("its pads on another axis are uneven")
    pads = tuple(0 if place == at else axis.pad_begin for place, axis in enumerate(axes))
    if module is None:
        found = arguments(walk, node, _CONV, {"bias": None, "stride": 1, "dilation": 1, "groups": 1})
        node.args, node.kwargs = (node.args[0] if node.args else node.kwargs["input"],), {**found, "padding": pads}
    else:
        module.padding = pads
        walk.rewritten[module] = axes


def pool_rule(walk: GraphWalk, node: fx.Node) -> Signal:
    """Pools without pads on the streamed axis."""
    value = source_of(walk, node)
    signal, spatial = walk.signals[value], rank_of(value) - 2
    found = arguments(walk, node, _POOL, {"stride": None, "padding": 0, "ceil_mode": False})
    if signal.axis < 2 or found["ceil_mode"] or not hasattr(node.meta["tensor_meta"], "shape"):
        raise NotStreamableError("the streamed axis is none of its spatial ones, or it rounds sizes up")
    at = signal.axis - 2
    kernel, padding = (per_axis(found[name], spatial)[at] for name in ("kernel_size", "padding"))
    module = walk.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    dilation = getattr(module, "dilation", node.kwargs.get("dilation", 1))
    stride = per_axis(found["stride"] or found["kernel_size"], spatial)[at]
    if padding or per_axis(dilation, spatial)[at] != 1:
        raise NotStreamableError("it pads or dilates the streamed axis")
    reach, made = convolution(signal, ConvAxis(1, kernel, stride))
    node.replace_input_with(value, walk.read(value, reach))
    return made


_DECONV = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


def deconv_rule(walk: GraphWalk, node: fx.Node) -> Signal:
    """Transposed convolutions: kept inputs, and a crop of what belongs to other chunks."""
    value = source_of(walk, node)
    inner = walk.masked(value)
    signal, spatial = walk.signals[inner], rank_of(value) - 2
    if signal.axis < 2 or (node.op == "call_module" and len(node.args) + len(node.kwargs) > 1):
        raise NotStreamableError("its output size is given, or the streamed axis is none of its spatial ones")
    module = walk.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    known = module in walk.rewritten
    defaults = {"bias": None, "stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    found = walk.rewritten[module] if known else arguments(walk, node, _DECONV, defaults)
    weight, at = found["weight"], signal.axis - 2
    kernel = weight.meta["tensor_meta"].shape[2:] if isinstance(weight, fx.Node) else weight.shape[2:]
    numbers = [
        per_axis(found[name], spatial)[at] for name in ("stride", "dilation", "padding", "padding", "output_padding")
    ]
    axis = Axis(kernel[at], *numbers)
    reach, crop, made = transposed(signal, axis)
    pad = min(crop.pad_begin, crop.pad_end)
    pads = {
        name: _with(found[name], spatial, at, size)
        for name, size in (("padding", pad), ("output_padding", crop.output_pad))
    }
    if module is None:
        node.args, node.kwargs = (value,), {**found, **pads}
    elif not known:
        module.padding, module.output_padding = pads["padding"], pads["output_padding"]
        walk.rewritten[module] = found
    node.replace_input_with(value, walk.read(inner, reach))
    _crop(walk, node, made, crop.pad_begin - pad, crop.pad_end - pad)
    return made


def _with(numbers: Any, spatial: int, at: int, size: int) -> tuple[int, ...]:
    return tuple(size if place == at else each for place, each in enumerate(per_axis(numbers, spatial)))


def _crop(walk: GraphWalk, node: fx.Node, made: Signal, begin: int, end: int) -> None:
    """Let all that read ``node`` read it without some samples at either end."""
    if not begin and not end:
        return
    with walk.graph.inserting_after(node):
        cut = walk.cut(node, made.axis, begin, -end or None)
    node.replace_all_uses_with(cut, delete_user_cb=lambda user: user is not cut)
    cut.meta["tensor_meta"] = node.meta["tensor_meta"]
    walk.signals[cut] = made
